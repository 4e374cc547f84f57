// What the page holds: `about` at once, a sample's JSON and images only when somebody looks at it.

const about = JSON.parse(byId("about").textContent);
const samples = about.samples;
const datasets = about.statistics.datasets;
const parsed = new Map();

function sampleOf(number) {
  if (!parsed.has(number)) parsed.set(number, JSON.parse(byId(`sample-${number}`).textContent));
  return parsed.get(number);
}

const imageUrl = (number, view) => `data:image/jpeg;base64,${byId(`image-${number}-${view}`).textContent}`;

// What a search looks through, made when somebody first searches.
const haystacks = new Map();
function haystack(number) {
  if (!haystacks.has(number)) {
    const sample = sampleOf(number);
    const text = [samples[number].key, sample.scene, sample.split, sample.source, ...sample.frames];
    for (const question of sample.questions) text.push(question.question, question.answer);
    haystacks.set(number, text.join("\n").toLowerCase());
  }
  return haystacks.get(number);
}
