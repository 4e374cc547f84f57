// Camera 2 in camera 1's axes: both as small pyramids with their axes (x red, y green, z blue), turned by dragging.

const AXES = ["var(--x-axis)", "var(--y-axis)", "var(--z-axis)"];
const FRUSTUM = [[-0.4, -0.3, 0.55], [0.4, -0.3, 0.55], [0.4, 0.3, 0.55], [-0.4, 0.3, 0.55]];
const APART = 1.35;
const times = (rows, [x, y, z]) => rows.map((row) => row[0] * x + row[1] * y + row[2] * z);
const plus = (a, b) => a.map((value, i) => value + b[i]);

// `turn` is [yaw, pitch] of the onlooker in radians; pitch pi/2 looks straight down, z upwards on the page.
function glyphOf(truth, { turn = [0.6, 0.5], side = 150, name = "" } = {}) {
  const rotation = truth.rotation, direction = truth.translation_direction;
  const place = direction ? direction.map((value) => value * APART) : [0, 0, 0];
  const root = svg("svg", { class: "glyph", viewBox: "-100 -100 200 200", width: side, height: side, role: "img",
    "aria-label": name || "Camera 2 as camera 1 sees it" });
  const turns = [...turn];
  const middle3 = place.map((value) => value / 2);
  const rims = [FRUSTUM, FRUSTUM.map((corner) => plus(times(rotation, corner), place)), [[0, -0.5, 0.2], place]];
  const reach = Math.max(...rims.flat().map((point) => Math.hypot(...point.map((value, i) => value - middle3[i]))));
  function draw() {
    const [yaw, pitch] = turns;
    const seen = ([x, y, z]) => {
      const across = Math.cos(yaw) * x - Math.sin(yaw) * z, ahead = Math.sin(yaw) * x + Math.cos(yaw) * z;
      return [(88 / reach) * across, (88 / reach) * (Math.cos(pitch) * y - Math.sin(pitch) * ahead)];
    };
    const middle = seen(middle3);
    const at = (point) => seen(point).map((value, i) => (value - middle[i]).toFixed(2)).join(" ");
    const camera = (pose, home, kind, label) => {
      const rim = FRUSTUM.map((corner) => plus(times(pose, corner), home));
      const body = rim.map((corner, i) => `M${at(home)}L${at(corner)}L${at(rim[(i + 1) % 4])}`).join("");
      const named = at(plus(times(pose, [0, -0.42, 0.2]), home)).split(" ");
      return svg("g", { class: kind }, svg("path", { d: body, class: "frustum" }),
        [0, 1, 2].map((axis) => {
          const tip = [0, 1, 2].map((i) => (i === axis ? 0.42 : 0));
          return svg("path", { d: `M${at(home)}L${at(plus(times(pose, tip), home))}`, stroke: AXES[axis], class: "axis" });
        }),
        svg("text", { x: named[0], y: named[1], class: "camera-name" }, label));
    };
    root.replaceChildren(
      svg("path", { d: `M${at([0, 0, 0])}L${at(place)}`, class: "way" }),
      camera([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 0], "first", "1"),
      camera(rotation, place, "second", "2"));
  }
  draw();
  let from = null;
  root.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY]; root.setPointerCapture(event.pointerId); });
  root.addEventListener("pointerup", () => { from = null; });
  root.addEventListener("pointermove", (event) => {
    if (!from) return;
    turns[0] -= (event.clientX - from[0]) / 90;
    turns[1] = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, turns[1] + (event.clientY - from[1]) / 90));
    from = [event.clientX, event.clientY];
    draw();
  });
  return root;
}
