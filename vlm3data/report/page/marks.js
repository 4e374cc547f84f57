// What a question marks in the pictures, read from the numbers behind it and not from its words:
// {points: [{view, x, y}], boxes: [...], line, colour, value, task}. Coordinates are pixels of the stored images.

const isPair = (value) => Array.isArray(value) && value.length === 2 && value.every(Number.isFinite);

function marksOf(sample) {
  const scale = depthScale(sample.questions);
  const objects = new Map();
  let matches = 0;
  return sample.questions.map((question) => {
    const truth = question.truth;
    const mark = { task: question.task, points: [], boxes: [], line: false, colour: "#fff", dark: false, value: "" };
    if (isPair(truth.pixel_px)) mark.points.push({ view: 0, x: truth.pixel_px[0] + 0.5, y: truth.pixel_px[1] + 0.5 });
    if (isPair(truth.pixel2_px)) {
      mark.points.push({ view: 1, x: truth.pixel2_px[0], y: truth.pixel2_px[1] });
      mark.line = true;
      mark.colour = apart(matches++);
    }
    if (truth.depth_m > 0) {
      mark.colour = depthColour(scale.at(truth.depth_m));
      mark.dark = scale.at(truth.depth_m) > 0.5;
      mark.value = `${truth.depth_m < 10 ? truth.depth_m.toFixed(2) : truth.depth_m.toFixed(1)} m`;
    }
    for (const region of truth.regions || []) mark.boxes.push(boxOf(region, sample.views[0], objects));
    if (mark.boxes.length) mark.colour = mark.boxes[0].colour;
    return mark;
  });
}

function boxOf(region, view, objects) {
  const name = region.box.join(" ");
  if (!objects.has(name)) {
    const { width_px: width, height_px: height } = view.camera;
    const [left, top, right, bottom] = region.box.map((value, i) => (value / 1000) * (i % 2 ? height : width));
    objects.set(name, {
      name, left, top, right, bottom, view: 0, label: region.label || "", colour: apart(objects.size + 2),
      edges: region.cam_from_box ? outline(region, view.camera) : [],
    });
  }
  return objects.get(name);
}
