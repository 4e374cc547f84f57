"""One file a method that estimates the camera from one image, for sources without intrinsics."""
