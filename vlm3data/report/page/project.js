// Where points of a camera's space are seen (pinhole, OpenCV axes; pixels continuous), and boxes in it.

const NEAR_M = 0.05;
const EDGES = [[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7]];

function corners(pose, size) {
  const found = [];
  for (let corner = 0; corner < 8; corner++) {
    const at = [0, 1, 2].map((axis) => (((corner >> (2 - axis)) & 1) - 0.5) * size[axis]);
    found.push(pose.map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]));
  }
  return found;
}

// The edges of a 3D box as [[x1, y1], [x2, y2]] in pixels, what is behind the camera cut away.
function outline(region, camera) {
  const at = corners(region.cam_from_box, region.size_m);
  const lines = [];
  for (const [one, other] of EDGES) {
    let [a, b] = [at[one], at[other]];
    if (a[2] < NEAR_M && b[2] < NEAR_M) continue;
    if (a[2] < NEAR_M) [a, b] = [b, a];
    if (b[2] < NEAR_M) {
      const share = (a[2] - NEAR_M) / (a[2] - b[2]);
      b = a.map((value, i) => value + share * (b[i] - value));
    }
    lines.push([a, b].map(([x, y, z]) => [(camera.fx_px * x) / z + camera.cx_px, (camera.fy_px * y) / z + camera.cy_px]));
  }
  return lines;
}
