"""Make generated tissue: StyleGAN, StyleGAN2 and PathologyGAN, trained and sampled in plain PyTorch."""
