"""vlm3data: 3D datasets as text that a vision-language model can learn from."""

__version__ = "0.1.0"
