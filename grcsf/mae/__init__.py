"""Masked autoencoders: models that reconstruct the hidden patches of a slice (section 3.3.1).

Tensors in and out; nothing here knows files, settings or the command line.

- `build`: masked models by name, with their training losses
- `model`: the masked autoencoder (MAE)
- `simmim`: SimMIM behind the same interface
- `patches`: slices to patches and back
- `masking`: masks for reconstruction and training
- `optimiser`: Adam or AdamW over its weights
- `baselines`: predictions that need no learning
- `adversarial`: a discriminator's term in training
- `checkpoint`: public, Hugging Face and own state dicts
- `precision`: lower precision and compiled layers
"""
