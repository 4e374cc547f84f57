"""Draws the documentation's pictures with the code that they are about: `make pictures` writes docs/images/*.svg.

Each is drawn twice, for light and for dark pages. The same code gives the same bytes.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from vlm3data.build import BuildConfig, open_source, samples
from vlm3data.geometry import convert_depth, move_of, move_pixels, relative_pose, to_grid, unify_focal
from vlm3data.geometry.pose import rotation_from_yaw_pitch_roll_deg, yaw_pitch_roll_deg
from vlm3data.geometry.warp import moved_image
from vlm3data.images import decode_rgb
from vlm3data.report.palette import DATASETS
from vlm3data.schedule import Course, Leaf, Schedule
from vlm3data.types import Camera, Frame

IMAGES = Path(__file__).parent / "images"
X, Y, Z, MARK = "#d1495b", "#3a9d5d", "#3d7dca", "#e0a030"
"""Colours of the axes, as everywhere in graphics, and of what is pointed at; legible on white and on near-black."""
LIGHT = {"ink": "#24292f", "faint": "#8b949e", "paper": "#f3f5f8"}
DARK = {"ink": "#e6edf3", "faint": "#8b949e", "paper": "#2a303a"}

SCHEMES = {"": LIGHT, "_dark": DARK}
"""What a file's name ends with, and its colours."""


def flow(ink: dict[str, str]) -> plt.Figure:
    """From a dataset to scores."""
    config = {"domains": ["room"], "views": 1, "size_jitter": 0.0, "width_px": 320, "height_px": 240}
    checked = BuildConfig.check(
        {"source": "synthetic", "limit": 8, "focal_px": 260.0, "options": config, "tasks": {"depth": {"pixels": 3}}},
        "flow",
    )
    sample = list(samples(checked))[6]
    figure, axes = plt.subplots(figsize=(11.5, 3.5))
    axes.set(xlim=(0, 115), ylim=(0, 35))
    axes.axis("off")
    places = [
        (1, "dataset", "images, intrinsics,\ndepth, poses"),
        (24, "unified", "one focal length,\nwhole patches"),
        (47, "text", "questions, answers and\nthe numbers behind them"),
        (70, "mixture", "any position of the run,\ncomputed, not visited"),
        (93, "model", "plain fine-tuning;\nscores beside controls"),
    ]
    for x, title, text in places:
        axes.add_patch(
            FancyBboxPatch(
                (x, 9.5), 19.5, 20, "round,pad=0.4,rounding_size=1.2", fc=ink["paper"], ec=ink["faint"], lw=0.8
            )
        )
        axes.text(x + 9.75, 32.3, title, ha="center", fontsize=12.5, weight="bold")
        axes.text(x + 9.75, 6.8, text, ha="center", va="top", fontsize=8.5, color=ink["faint"])
    for x in (21.2, 44.2, 67.2, 90.2):
        axes.add_patch(
            FancyArrowPatch((x - 0.2, 19.5), (x + 2.6, 19.5), arrowstyle="-|>", mutation_scale=13, color=ink["ink"])
        )
    for number, (dx, dy, seed) in enumerate(((0.4, 10.4, 2), (2.4, 13.2, 3), (4.4, 16.0, 7))):
        image = rgb_of(frame_of(seed, hfov_deg=(85.0, 65.0, 45.0)[number], **config))
        axes.imshow(image, extent=(1 + dx, 1 + dx + 14.4, dy, dy + 10.8), zorder=2 + number, aspect="auto")
        axes.add_patch(Rectangle((1 + dx, dy), 14.4, 10.8, fill=False, ec=ink["paper"], lw=1.2, zorder=2 + number))
    image = decode_rgb(sample.images[0])
    height = 17.5 * image.shape[0] / image.shape[1]
    axes.imshow(image, extent=(25, 42.5, 19.5 - height / 2, 19.5 + height / 2), zorder=2, aspect="auto")
    scale = 17.5 / image.shape[1]
    question = sample.questions[0]
    u, v = question.truth["pixel_px"]
    axes.plot(
        25 + (u + 0.5) * scale, 19.5 + height / 2 - (v + 0.5) * scale, "o", ms=8, mfc="none", mec=MARK, mew=2, zorder=3
    )
    words = [part for line in (question.question, question.answer) for part in textwrap.wrap(line, 24)]
    axes.text(48, 28.3, "\n".join(words[:-1]), va="top", fontsize=7.6, linespacing=1.35)
    axes.text(48, 11, words[-1], va="bottom", fontsize=10.5, weight="bold", color=MARK)
    shares = {"rooms": 0.5, "streets": 0.3, "pairs": 0.2}
    for row, (name, share) in enumerate(shares.items()):
        colour = DATASETS[row]
        axes.add_patch(Rectangle((72, 26.2 - 3.4 * row), 22 * share, 2, color=colour))
        axes.text(72.5 + 22 * share, 27.2 - 3.4 * row, name, va="center", fontsize=8)
    leaves = [Leaf(name, "", (1000,)) for name in shares]
    schedule = Schedule(7, Course.constant(list(shares.values())), leaves)
    for n in range(16):
        axes.add_patch(Rectangle((72 + n, 12), 0.85, 3, color=DATASETS[schedule.locate(n).dataset]))
    axes.text(72, 10.5, "n = 0, 1, 2, ...", fontsize=7.5, color=ink["faint"])
    for row, (name, value, colour) in enumerate(
        (("guess", 0.442, ink["faint"]), ("trained", 0.572, Z), ("other image", 0.332, ink["faint"]))
    ):
        axes.add_patch(Rectangle((94.5, 23.5 - 5.2 * row), 16 * value, 2.2, color=colour))
        axes.text(94.5, 26.2 - 5.2 * row, name, fontsize=8)
        axes.text(95 + 16 * value, 24.6 - 5.2 * row, f"{value:.2f}", va="center", fontsize=8)
    axes.set(xlim=(0, 115), ylim=(0, 35))
    return figure


def axes_and_depth(ink: dict[str, str]) -> plt.Figure:
    """The camera's axes, and the two kinds of depth."""
    figure = plt.figure(figsize=(9.5, 3.6))
    space: Any = figure.add_subplot(1, 2, 1, projection="3d")
    draw_camera(space, np.eye(4), ink, 1.0, named=True)
    look(space, (-0.9, 1.2), (-0.9, 0.9), (-0.2, 1.5), "the camera: x right, y down, z forward")
    plane = figure.add_subplot(1, 2, 2)
    camera = Camera(100.0, 100.0, 100.0, 75.0, 200, 150)
    pixel = np.array([[170.0, 75.0]])
    z_m = 4.0
    ray_m = convert_depth(np.array([z_m]), camera, pixel, "z", "euclidean").item()
    x_m = z_m * (pixel[0, 0] - camera.cx_px) / camera.fx_px
    plane.plot([0, x_m], [0, z_m], color=MARK, lw=2.2)
    plane.plot([0, 0], [0, z_m], color=Z, lw=2.2)
    plane.plot([-2.4, 3.6], [z_m, z_m], color=ink["faint"], lw=1, ls="--")
    plane.plot(x_m, z_m, "o", color=ink["ink"], ms=7)
    plane.plot(0, 0, "s", color=ink["ink"], ms=8)
    plane.text(-0.12, 2.0, f"z\n{z_m:.2f} m", ha="right", color=Z)
    plane.text(x_m / 2 + 0.25, 1.8, f"euclidean\n{ray_m:.2f} m", color=MARK)
    plane.text(0.15, -0.3, "camera, from above", va="center", color=ink["faint"], fontsize=9)
    plane.set(
        xlim=(-2.5, 3.7),
        ylim=(-0.6, 4.5),
        aspect="equal",
        title=f"one point, two depths: a factor of {ray_m / z_m:.2f}",
    )
    plane.axis("off")
    return figure


def pixels_and_grid(ink: dict[str, str]) -> plt.Figure:
    """Pixel centres, a label under a change of size, and the grid of the text."""
    figure, (before, after, text) = plt.subplots(1, 3, figsize=(10.5, 3.5), width_ratios=(1, 1.25, 1.45))
    small, label = Camera(8.0, 8.0, 4.0, 3.0, 8, 6), np.array([[5, 2]])
    scale = 12.0 / 8.0
    large = unify_focal(small, 12.0)
    moved = move_pixels(label, small, (scale, scale), (0, 0))
    for axes, camera, (u, v), title in (
        (before, small, label[0], "label (5, 2): the pixel, not its corner"),
        (after, large, moved[0], f"scaled by {scale:g}: floor((u + 0.5) · s)"),
    ):
        axes.set(xlim=(-0.2, camera.width_px + 0.2), ylim=(camera.height_px + 0.2, -0.2), aspect="equal")
        axes.set_title(title, fontsize=9.5)
        for x in range(camera.width_px + 1):
            axes.plot([x, x], [0, camera.height_px], color=ink["faint"], lw=0.6)
        for y in range(camera.height_px + 1):
            axes.plot([0, camera.width_px], [y, y], color=ink["faint"], lw=0.6)
        axes.add_patch(Rectangle((u, v), 1, 1, color=MARK, alpha=0.55, lw=0))
        axes.plot(0.5, 0.5, "o", ms=4, color=X)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=7.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
    before.annotate("(0.5, 0.5)", (0.5, 0.5), (0.9, 1.55), color=X, fontsize=8.5)
    centre = (label[0] + 0.5) * scale
    after.plot(*centre, "x", color=ink["ink"], ms=7, mew=1.6)
    after.annotate(
        f"its centre, ({centre[0]:g}, {centre[1]:g}),\nlies in pixel ({moved[0, 0]}, {moved[0, 1]})",
        centre,
        (0.6, 8.3),
        fontsize=8.5,
        arrowprops={"arrowstyle": "-", "color": ink["faint"]},
    )
    frame = frame_of(1, domains=["street"], views=1, size_jitter=0.0, width_px=320, height_px=192, hfov_deg=70.0)
    image = rgb_of(frame)
    size_px = image.shape[1], image.shape[0]
    text.imshow(image)
    pixel = np.array([[212, 96]])
    grid = to_grid(pixel, size_px)[0]
    text.plot(*(pixel[0] + 0.5 - 0.5), "o", ms=10, mfc="none", mec=MARK, mew=2.2)
    text.annotate(
        f"pixel ({pixel[0, 0]}, {pixel[0, 1]})\nin text: ({grid[0]}, {grid[1]})",
        pixel[0],
        (150, 178),
        color="white",
        fontsize=9,
        arrowprops={"arrowstyle": "-", "color": "white"},
        bbox={"fc": "#00000099", "ec": "none"},
    )
    ticks = np.array([0, 500, 1000, 1500, 1999])
    text.set_xticks(ticks * size_px[0] / 2000, ticks)
    text.set_yticks(ticks * size_px[1] / 2000, ticks)
    text.tick_params(labelsize=7.5, length=2)
    text.set_title("the grid of the text: 2000 each way", fontsize=9.5)
    return figure


def unification(ink: dict[str, str]) -> plt.Figure:
    """One place through two lenses, then both at one focal length, and the crop."""
    figure, rows = plt.subplots(2, 2, figsize=(9.5, 5.2), height_ratios=(390, 250))
    for (raw, made), hfov_deg in zip(rows, (85.0, 45.0), strict=True):
        frame = frame_of(3, domains=["room"], views=1, size_jitter=0.0, width_px=320, height_px=240, hfov_deg=hfov_deg)
        camera, focal_px = camera_of(frame), 280.0
        unified, move = unify_focal(camera, focal_px), move_of(camera, focal_px)
        whole = moved_image(rgb_of(frame), move_of(camera, focal_px, align="none"))
        raw.imshow(rgb_of(frame))
        raw.set_title(f"as taken: {camera.width_px}x{camera.height_px}, f = {camera.fx_px:.0f} px", fontsize=10)
        made.imshow(whole)
        x, y = move.crop_xy_px
        made.add_patch(Rectangle((x, y), move.camera.width_px, move.camera.height_px, fill=False, ec=MARK, lw=2))
        made.set_title(
            f"unified: {unified.width_px}x{unified.height_px}, f = {focal_px:.0f} px; "
            f"cropped to {move.camera.width_px}x{move.camera.height_px}",
            fontsize=10,
        )
        for axes in (raw, made):
            axes.set(xlim=(0, 530), ylim=(390 if hfov_deg > 60 else 250, 0))
            axes.axis("off")
    return figure


def pose(ink: dict[str, str]) -> plt.Figure:
    """A relative pose from above, and the three angles by themselves."""
    figure = plt.figure(figsize=(11, 3.3))
    world_from_cam1, world_from_cam2 = np.eye(4), np.eye(4)
    world_from_cam2[:3, :3] = rotation_from_yaw_pitch_roll_deg(-35.0, 0.0, 0.0)
    world_from_cam2[:3, 3] = (1.6, 0.0, 0.7)
    rotation, t = relative_pose(world_from_cam1, world_from_cam2)
    plane = figure.add_subplot(1, 4, 1)
    for name, matrix in (("1", world_from_cam1), ("2", world_from_cam2)):
        origin = matrix[[0, 2], 3]
        for axis, colour, letter in ((0, X, "x"), (2, Z, "z")):
            tip = origin + 0.75 * matrix[[0, 2], axis]
            plane.annotate("", tip, origin, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2})
            plane.text(*(tip + 0.1 * matrix[[0, 2], axis]), letter, color=colour, ha="center", va="center")
        plane.text(*(origin - (0.14, 0.22)), name, weight="bold", ha="center")
    plane.annotate(
        "", world_from_cam2[[0, 2], 3], (0, 0), arrowprops={"arrowstyle": "->", "color": MARK, "lw": 1.6, "ls": "--"}
    )
    yaw, pitch, roll = yaw_pitch_roll_deg(rotation) + 0.0
    plane.text(
        -0.3,
        -0.62,
        f"R: yaw {yaw:.0f}°, pitch {pitch:.0f}°, roll {roll:.0f}°\nt: {t[0]:.1f}, {t[1]:.1f}, {t[2]:.1f} m",
        va="top",
        fontsize=9,
    )
    plane.set(xlim=(-0.4, 2.6), ylim=(-1.15, 1.9), aspect="equal")
    plane.set_title("cam1 from cam2, from above", fontsize=10)
    plane.axis("off")
    for number, (name, angles, said) in enumerate(
        (("yaw", (30, 0, 0), "turns right"), ("pitch", (0, 30, 0), "looks up"), ("roll", (0, 0, 30), "banks right"))
    ):
        space: Any = figure.add_subplot(1, 4, number + 2, projection="3d")
        draw_camera(space, np.eye(4), ink, 0.8, faint=True)
        turned = np.eye(4)
        turned[:3, :3] = rotation_from_yaw_pitch_roll_deg(*angles)
        draw_camera(space, turned, ink, 0.8, named=True)
        look(space, (-0.8, 1.0), (-0.8, 0.8), (-0.2, 1.2), f"{name} +30°: {said}")
    return figure


def draw_camera(
    space: Any,
    world_from_cam: np.ndarray,
    ink: dict[str, str],
    size: float,
    *,
    named: bool = False,
    faint: bool = False,
) -> None:
    """Draw a camera's axes and picture in 3D; matplotlib's axes are (x, z, -y), so that its up is ours."""

    def seen(points: np.ndarray) -> np.ndarray:
        world = points @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
        return world[..., [0, 2, 1]] * (1, 1, -1)

    corners = size * np.array([[-0.5, -0.35, 0.8], [0.5, -0.35, 0.8], [0.5, 0.35, 0.8], [-0.5, 0.35, 0.8]])
    colour = ink["faint"] if faint else ink["ink"]
    style = {"color": colour, "lw": 0.8, "ls": ":" if faint else "-"}
    for corner in corners:
        space.plot(*seen(np.stack([np.zeros(3), corner])).T, **style)
    space.plot(*seen(np.vstack([corners, corners[:1]])).T, **style)
    if faint:
        return
    for axis, colour, letter in zip(size * np.eye(3), (X, Y, Z), "xyz", strict=True):
        tip = axis * (1.35 if letter == "z" else 0.9)
        space.quiver(
            *seen(np.zeros(3)), *(seen(tip) - seen(np.zeros(3))), color=colour, lw=2.2, arrow_length_ratio=0.16
        )
        if named:
            space.text(*seen(tip * 1.14), letter, color=colour, weight="bold", fontsize=11, ha="center", va="center")


def look(space: Any, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], title: str) -> None:
    space.set(xlim=x, ylim=z, zlim=(-y[1], -y[0]))
    space.set_box_aspect((x[1] - x[0], z[1] - z[0], y[1] - y[0]), zoom=1.35)
    space.view_init(elev=22, azim=-62)
    space.set_axis_off()
    space.set_title(title, fontsize=10, y=0.98)


def frame_of(scene: int, *, hfov_deg: float, **options: Any) -> Frame:
    """Return the first frame of a generated scene, taken with a lens of `hfov_deg`."""
    values = {"source": "synthetic", "options": options | {"hfov_deg": [hfov_deg, hfov_deg]}}
    source = open_source(BuildConfig.check(values, "pictures"))
    scenes: Iterator[Any] = iter(source.scenes(None))
    for _ in range(scene):
        next(scenes)
    return next(iter(source.frames(next(scenes))))


def camera_of(frame: Frame) -> Camera:
    assert frame.camera is not None
    return frame.camera


def rgb_of(frame: Frame) -> np.ndarray:
    image = frame.image()
    assert not isinstance(image, bytes)
    return image


PICTURES: dict[str, Callable[[dict[str, str]], plt.Figure]] = {
    "flow": flow,
    "axes": axes_and_depth,
    "pixels": pixels_and_grid,
    "unification": unification,
    "pose": pose,
}


def main(out: Path = IMAGES, schemes: Mapping[str, dict[str, str]] = SCHEMES) -> None:
    """Write every picture below `out`."""
    for name, draw in PICTURES.items():
        for suffix, ink in schemes.items():
            colours = dict.fromkeys(
                ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), ink["ink"]
            )
            settings = {
                "svg.hashsalt": "vlm3",
                "font.size": 10,
                "savefig.transparent": True,
                "image.composite_image": False,
            }
            with mpl.rc_context(colours | settings):
                figure = draw(ink)
                figure.savefig(
                    out / f"{name}{suffix}.svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
                )
                plt.close(figure)


if __name__ == "__main__":
    mpl.use("Agg")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
