"""Pixels go where the camera says, look as Pillow's bicubic makes them, and are resampled once."""

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image
from scipy import ndimage

from vlm3data.geometry import project, rays
from vlm3data.geometry.prefilter import LINEAR_FROM, interpolates_linearly, taps
from vlm3data.geometry.warp import resample, unify_image
from vlm3data.types import Camera, Distortion, Drop

REALDATA = Path(__file__).parents[3] / "../shared/realdata"
PHOTOGRAPHS = ("colmap_lund/images/*.JPG", "ibims1/rgb/*.png", "nuscenes/samples/CAM_FRONT/*.jpg")
BARREL = Distortion("opencv", (-0.15, 0.02, 1e-3, -2e-3))
FISHEYE = Distortion("opencv_fisheye", (0.03, -0.01, 0.002, -0.001))
COLMAP = {
    "simple_radial": (-0.12,),
    "radial": (-0.15, 0.03),
    "full_opencv": (-0.15, 0.02, 1e-3, -2e-3, 0.01, 0.05, -0.01, 0.003),
    "fov": (0.8,),
    "simple_radial_fisheye": (0.05,),
    "radial_fisheye": (0.05, -0.02),
    "thin_prism_fisheye": (0.03, -0.01, 1e-3, 2e-3, 0.002, -0.001, 1e-3, -2e-3),
    "rad_tan_thin_prism_fisheye": (0.03, -0.01, 2e-3, -1e-3, 1e-4, 0, 1e-3, 2e-3, 1e-3, -1e-3, 2e-3, 5e-4),
}

GOLDEN_TAPS = [
    (0.6, False, [0.651351753607, 0.174324123197]),
    (0.35, False, [0.328559336359, 0.284888974573, 0.050831357248]),
    (0.35, True, [0.33880772998, 0.310801493726, 0.019794641283]),
    (0.15, True, [0.470991486785, 0.332436786088, -0.06793252948]),
    (0.05, True, [0.549976195062, 0.305224162757, -0.080212260288]),
]
"""Scale, whether for linear interpolation, the kernel from its middle outward."""


def camera_for(scale, size=(400, 300), distortion=None, fy_over_fx=1.0):
    """Return a camera that unification to 1000 px scales by `scale`."""
    fx = 1000 / scale
    return Camera(
        fx, fx * fy_over_fx, 0.51 * size[0], 0.48 * size[1], *size, distortion=distortion
    )  # off-centre, so that a mix-up shows


def ideal_pixels(camera):
    """Return (h, w, 2): where each pixel centre would lie without distortion, by OpenCV's own inverse."""
    matrix = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1.0]])
    x, y = np.meshgrid(np.arange(camera.width_px) + 0.5, np.arange(camera.height_px) + 0.5)
    centres = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    if camera.distortion is None:
        ideal = centres
    elif camera.distortion.model == "opencv_fisheye":
        ideal = cv2.fisheye.undistortPoints(centres, matrix, np.array(camera.distortion.params), P=matrix)
    else:
        accurate = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
        params = np.array(camera.distortion.params)
        ideal = cv2.undistortPoints(centres, matrix, params, P=matrix, criteria=accurate)
    return ideal.reshape(camera.height_px, camera.width_px, 2)


def blob(camera, centre_px, sigma_px):
    """Return a photograph by `camera` of a smooth spot that is round in the undistorted image."""
    distance = np.linalg.norm(ideal_pixels(camera) - centre_px, axis=-1)
    return np.repeat(np.rint(250 * np.exp(-0.5 * (distance / sigma_px) ** 2))[..., None], 3, -1).astype(np.uint8)


def centroid(image):
    weight = image[..., 1].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def detailed(height, width, seed=0):
    """Return noise with the 1/f amplitude spectrum of photographs, contrast included."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    channels = []
    for _ in range(3):
        phases = np.fft.rfft2(rng.normal(size=(height, width)))
        noise = np.fft.irfft2(phases * amplitude, s=(height, width))
        channels.append(128 + 45 * (noise - noise.mean()) / noise.std())
    return np.clip(np.rint(np.stack(channels, -1)), 0, 255).astype(np.uint8)


def by_pillow(image, camera, scale):
    size, old_size = (camera.width_px, camera.height_px), (image.shape[1], image.shape[0])
    box = (0, 0, *(min(new / s, old) for new, s, old in zip(size, scale, old_size, strict=True)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, box=box))


def psnr_db(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


CASES = {
    "down": (camera_for(0.79), {}),
    "a little": (camera_for(0.97), {}),
    "half": (camera_for(0.41), {}),
    "far down": (camera_for(0.23, (1203, 1001)), {}),
    "very far down": (camera_for(0.1, (2003, 1603)), {}),
    "up": (camera_for(1.7, (200, 150)), {}),
    "only crop": (camera_for(1.0), {}),
    "square": (camera_for(0.79, fy_over_fx=0.93), {"mode": "square"}),
    "uniform, not square": (camera_for(0.79, fy_over_fx=0.93), {}),
    "square, down and up": (camera_for(0.98, fy_over_fx=0.93), {"mode": "square"}),
    "barrel": (camera_for(0.79, distortion=BARREL), {}),
    "barrel, far down": (camera_for(0.31, (1203, 1001), BARREL), {}),
    "barrel, up, square": (camera_for(1.2, distortion=BARREL, fy_over_fx=1.04), {"mode": "square"}),
    "fisheye": (camera_for(0.79, distortion=FISHEYE), {}),
    "fisheye, wide": (Camera(500, 500, 330, 240, 640, 480, FISHEYE), {"focal_px": 400}),
}


@pytest.mark.parametrize("align", ["crop", "pad", "none"])
@pytest.mark.parametrize("case", CASES)
def test_a_spot_is_found_where_the_camera_says(case, align):
    camera, options = CASES[case]
    spot_px = np.array([0.37 * camera.width_px + 0.3, 0.58 * camera.height_px + 0.1])
    sigma_px = 3.0 * max(1, camera.fx_px / 1000)
    pinhole = Camera(camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px, 1, 1)
    image, target, _, _ = unify_image(blob(camera, spot_px, sigma_px), camera, align=align, **options)
    assert image.shape == (target.height_px, target.width_px, 3)
    assert image.dtype == np.uint8
    expected_px = project(target, rays(pinhole, spot_px[None]))[0]
    # OpenCV's cubic (a = -0.75) by itself moves an edge by up to 0.047 px, to and fro with its phase.
    np.testing.assert_allclose(centroid(image), expected_px, rtol=0, atol=0.05)


@pytest.mark.parametrize("scale", [0.97, 0.79, 0.6, 0.46, 0.449, 0.41, 0.34, 0.33, 0.2, 0.15, 0.1])
def test_a_detailed_image_looks_as_pillow_makes_it(scale):
    image = detailed(600, 803)
    moved, target, exact_scale, _ = unify_image(image, camera_for(scale, (803, 600)), align="none")
    # The image is harsher than a photograph; linear interpolation alone, near scale 1, shows that.
    assert psnr_db(moved, by_pillow(image, target, exact_scale)) >= (37 if LINEAR_FROM <= scale < 1 else 40)


def test_each_axis_has_its_own_prefilter():
    camera = camera_for(0.3, (803, 600), fy_over_fx=0.4)  # 0.3 across, 0.75 down
    moved, target, exact_scale, _ = unify_image(detailed(600, 803), camera, mode="square", align="none")
    assert psnr_db(moved, by_pillow(detailed(600, 803), target, exact_scale)) >= 38


@pytest.mark.parametrize("scale", [0.79, 0.41])
@pytest.mark.parametrize("pattern", PHOTOGRAPHS)
def test_a_photograph_looks_as_pillow_makes_it(pattern, scale):
    files = sorted(REALDATA.glob(pattern))
    if not files:
        pytest.skip(f"no real photographs at ../shared/realdata/{pattern}")
    image = np.array(Image.open(files[0]).convert("RGB"))
    camera = camera_for(scale, (image.shape[1], image.shape[0]))
    moved, target, exact_scale, _ = unify_image(image, camera, align="none")
    assert psnr_db(moved, by_pillow(image, target, exact_scale)) >= 41


def test_the_last_column_does_not_drift():
    # 1001 px · 0.7999 = 800.7, cut to 800: at the ratio 800/1001 the right border would be 0.7 px off.
    camera = camera_for(0.7999, (1001, 64))
    spot_px = np.array([960.2, 30.0])
    image, target, (s, _), _ = unify_image(blob(camera, spot_px, 4.0), camera, align="none")
    assert target.width_px == 800
    np.testing.assert_allclose(centroid(image), spot_px * s, rtol=0, atol=0.03)


@pytest.mark.parametrize("lens", [BARREL, FISHEYE], ids=["barrel", "fisheye"])
def test_one_resampling_equals_undistortion_and_resize_done_finely(lens):
    module = cv2.fisheye if lens is FISHEYE else cv2

    def by_opencv(camera, seen):
        matrix = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1.0]])
        zero = np.zeros(3)
        return module.projectPoints(seen[:, None], zero, zero, matrix, np.array(lens.params))[0].reshape(-1, 2)

    check_one_resampling(camera_for(0.6, (400, 300), lens), by_opencv)


@pytest.mark.parametrize("model", COLMAP)
def test_one_resampling_equals_what_colmap_undistorts_done_finely(model):
    def by_colmap(camera, seen):
        focal = (
            [camera.fx_px]
            if model in ("simple_radial", "radial", "simple_radial_fisheye", "radial_fisheye")
            else [camera.fx_px, camera.fy_px]
        )
        params = [*focal, camera.cx_px, camera.cy_px, *COLMAP[model]]
        size = {"width": camera.width_px, "height": camera.height_px}
        return pycolmap.Camera(model=model.upper(), params=params, **size).img_from_cam(seen)

    check_one_resampling(camera_for(0.6, (400, 300), Distortion(model, COLMAP[model])), by_colmap)


def check_one_resampling(camera, project_exactly):
    image = ndimage.gaussian_filter(detailed(300, 400), (2, 2, 0))
    moved, target, (s, _), _ = unify_image(image, camera, align="none")
    # Undistorted at 4 samples a target pixel and axis, cubic splines in doubles, then averaged.
    fine = (np.arange(4 * target.width_px) + 0.5) / 4, (np.arange(4 * target.height_px) + 0.5) / 4
    pinhole = Camera(camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px, 1, 1)
    seen = rays(pinhole, np.stack(np.meshgrid(*fine), -1) / s).reshape(-1, 3)
    source = project_exactly(camera, seen)
    for channel in range(3):
        exact = ndimage.map_coordinates(
            image[..., channel].astype(float), (source[:, 1] - 0.5, source[:, 0] - 0.5), mode="nearest"
        )
        exact = exact.reshape(target.height_px, 4, target.width_px, 4).mean((1, 3))
        inner = np.s_[30:-30, 30:-30]
        assert psnr_db(moved[..., channel][inner], exact[inner]) > 44


@pytest.mark.parametrize("lens", [None, BARREL], ids=["pinhole", "barrel"])
def test_padding_is_black_and_nothing_else_is(lens):
    camera = camera_for(0.79, (401, 301), lens)  # 316.79x237.79: the last 0.79 of a pixel must not show
    image, target, _, (x_px, y_px) = unify_image(np.full((301, 401, 3), 200, np.uint8), camera, align="pad")
    assert (target.width_px, target.height_px) == (320, 256)
    assert (x_px, y_px) == (-2, -9)  # 316x237 inside
    inside = np.zeros((256, 320), bool)
    inside[9:246, 2:318] = True
    assert (image[~inside] == 0).all()
    assert (image[inside] == 200).all()  # undone, a barrel lens shows beyond the frame: no black corner


def test_what_the_lens_never_saw_is_black():
    pincushion = camera_for(0.8, (400, 300), Distortion("simple_radial", (1.5,)))
    image, _, _, _ = unify_image(np.full((300, 400, 3), 200, np.uint8), pincushion, align="none")
    assert (image[:3, :3] == 0).all()
    assert (image[100:140, 100:220] == 200).all()


def test_half_a_pixel_beyond_the_edge_the_lens_still_saw():
    camera = camera_for(0.8, (400, 300), Distortion("simple_radial", (0.35,)))
    image, target, _, _ = unify_image(np.full((300, 400, 3), 200, np.uint8), camera, align="none")
    centres = np.stack(np.meshgrid(np.arange(target.width_px) + 0.5, np.arange(target.height_px) + 0.5), -1)
    from_px = project(camera, rays(target, centres))
    beyond_px = np.maximum(-from_px, from_px - (400, 300)).max(axis=-1)
    nearly = (beyond_px > 0.3) & (beyond_px < 0.49)
    just = (beyond_px > 0.51) & (beyond_px < 0.9)
    assert min(nearly.sum(), just.sum()) > 50
    assert (image[nearly] == 200).all()
    assert (image[just] == 0).all()


def test_a_fractional_border_is_replicated_in_square_mode():
    camera = Camera(464.3207702636719, 464.890869140625, 87.6, 58.4, 175, 117)  # 282.67x188.75 at 750 px
    moved, target, _, _ = unify_image(np.full((117, 175, 3), 90, np.uint8), camera, 750.0, "square", "none")
    assert (target.width_px, target.height_px) == (283, 189)
    assert (moved == 90).all()


def test_scale_one_is_a_pure_crop_and_leaves_the_input_alone():
    image = detailed(70, 101)
    before = image.copy()
    moved, _, scale, (x_px, y_px) = unify_image(image, camera_for(1.0, (101, 70)))
    assert (scale, x_px, y_px) == ((1.0, 1.0), 2, 3)
    np.testing.assert_array_equal(moved, image[3:67, 2:98])
    whole = unify_image(image, camera_for(1.0, (101, 70)), align="none")[0]
    whole[:] = 0
    np.testing.assert_array_equal(image, before)


def test_crop_and_pad_select_the_same_pixels():
    image, camera = detailed(200, 260), camera_for(0.77, (260, 200))
    plain, target, scale, _ = unify_image(image, camera, align="none")
    for align in ("crop", "pad"):
        moved, _, _, (x, y) = unify_image(image, camera, align=align)
        top, left = max(0, y), max(0, x)
        shared = plain[top : y + moved.shape[0], left : x + moved.shape[1]]
        np.testing.assert_array_equal(
            moved[top - y : top - y + shared.shape[0], left - x : left - x + shared.shape[1]], shared
        )
    np.testing.assert_array_equal(resample(image, camera, target, scale, (0, 0)), plain)


def test_the_prefilter_keeps_brightness_and_is_not_needed_for_enlarging():
    for scale in (0.05, 0.3, 0.79, 0.999):
        np.testing.assert_allclose(taps(scale).sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(taps(scale, linear=True).sum(), 1, rtol=1e-12)
        np.testing.assert_array_equal(taps(scale), taps(scale)[::-1])
    assert len(taps(1.0)) == len(taps(2.5)) == 1


def test_an_image_of_another_size_than_its_camera_is_dropped_for_a_reason():
    with pytest.raises(Drop) as drop:
        unify_image(np.zeros((300, 401, 3), np.uint8), camera_for(0.8))
    assert drop.value.reason == "image_size_mismatch"


@pytest.mark.parametrize(
    ("scale", "linear"),
    [(2.0, False), (1.0, False), (0.99, True), (0.75, True), (0.74, False), (0.46, False), (0.45, True), (0.2, True)],
)
def test_near_one_and_far_below_linear_interpolation_will_do(scale, linear):
    assert interpolates_linearly(scale) == linear


@pytest.mark.parametrize(("scale", "linear", "expected"), GOLDEN_TAPS)
def test_the_kernels_are_those_of_every_release(scale, linear, expected):
    """A build that goes on with another release writes the same pixels."""
    kernel = taps(scale, linear=True) if linear else taps(scale)
    np.testing.assert_allclose(kernel[len(kernel) // 2 :], expected, atol=1e-9)
