"""Training and evaluation of a vision language model on the shards that vlm3data builds."""
