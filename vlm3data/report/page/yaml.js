// The edited mixture as YAML: what differs from the file, on top of it.

const PLAIN = /^[A-Za-z_][A-Za-z0-9_.-]*$/;
const WORDS = /^(null|true|false|yes|no|on|off|y|n|[.](inf|nan))$/i;

// JSON's strings are YAML's too, but for characters that YAML takes for line ends or does not print.
const UNPRINTED = /[\u007f-\u00a0\u2028\u2029\ufeff\ufffe\uffff]/g;
const escaped = (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
const yamlText = (text) => (PLAIN.test(text) && !WORDS.test(text) ? text : JSON.stringify(text).replace(UNPRINTED, escaped));

// YAML 1.1 wants a point and a sign in an exponent, JavaScript leaves the point out.
function yamlNumber(number) {
  const text = String(number);
  return text.includes("e") && !text.includes(".") ? text.replace("e", ".0e") : text;
}

const yamlValue = (value) => (value === null ? "null" : typeof value === "number" ? yamlNumber(value) : yamlText(value));

function yamlFlow(entries) {
  return `{${entries.map(([key, value]) => `${yamlText(key)}: ${yamlValue(value)}`).join(", ")}}`;
}

const sameWeighting = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function changedNodes(nodes, were, indent) {
  const lines = [];
  nodes.forEach((node, i) => {
    const was = were[i];
    const own = ["weight", "repeat"].filter((key) => node[key] !== was[key]).map((key) => [key, node[key]]);
    const weighting = sameWeighting(node.weighting, was.weighting) ? [] : [`weighting: ${node.weighting ? yamlFlow(Object.entries(node.weighting)) : "null"}`];
    const below = node.datasets ? changedNodes(node.datasets, was.datasets, `${indent}    `) : [];
    if (!own.length && !weighting.length && !below.length) return;
    if (!weighting.length && !below.length) {
      lines.push(`${indent}${yamlText(node.name)}: ${yamlFlow(own)}`);
      return;
    }
    lines.push(`${indent}${yamlText(node.name)}:`);
    for (const [key, value] of own) lines.push(`${indent}  ${key}: ${yamlValue(value)}`);
    for (const line of weighting) lines.push(`${indent}  ${line}`);
    if (below.length) lines.push(`${indent}  datasets:`, ...below);
  });
  return lines;
}

function yamlOf(mixture, was, file) {
  const lines = [`# Changes to ${file.replace(/[^\x20-\x7e]/g, "?")}, whose comments and other keys still hold: keep the two side by side.`];
  lines.push(`extends: ${yamlText(file)}`);
  if (mixture.samples !== about.file_samples) lines.push(`samples: ${yamlNumber(mixture.samples)}`);
  if (!sameWeighting(mixture.weighting, was.weighting)) lines.push(`weighting: ${yamlFlow(Object.entries(mixture.weighting))}`);
  const below = changedNodes(mixture.datasets, was.datasets, "  ");
  if (below.length) lines.push("datasets:", ...below);
  return `${lines.join("\n")}\n`;
}
