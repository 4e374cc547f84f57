"""vlm3 on Ray clusters: the engine only; what is built and how is decided in `vlm3data.build`."""
