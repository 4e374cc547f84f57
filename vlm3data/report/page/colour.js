// Colours of values. Depth: from near to far over the sample's own range, evenly in the logarithm.

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const DEPTH = about.depth_colours.map(channels);

function depthColour(share) {
  const place = Math.min(1, Math.max(0, share)) * (DEPTH.length - 1);
  const low = Math.min(DEPTH.length - 2, Math.floor(place));
  const mixed = DEPTH[low].map((value, i) => Math.round(value + (place - low) * (DEPTH[low + 1][i] - value)));
  return `rgb(${mixed.join(" ")})`;
}

// The scale of one sample's depths: {low, high, at(metres) -> 0..1}, or null without depths.
function depthScale(questions) {
  const depths = questions.map((question) => question.truth.depth_m).filter((depth) => depth > 0);
  if (!depths.length) return null;
  let low = Math.min(...depths), high = Math.max(...depths);
  if (high / low < 1.05) [low, high] = [low / 1.05, high * 1.05];
  const span = Math.log(high / low);
  return { low, high, at: (depth) => Math.log(depth / low) / span };
}

// Round numbers inside a logarithmic range, few enough to write.
function logTicks(low, high, most = 6) {
  for (const steps of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++)
      for (const step of steps) {
        const tick = Number((step * 10 ** decade).toPrecision(3));
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    if (ticks.length <= most && ticks.length) return ticks;
  }
  return [low, high];
}

// Colours of things that have no order, far apart from one to the next.
const apart = (number) => `hsl(${Math.round(number * 137.508) % 360} 90% 62%)`;
