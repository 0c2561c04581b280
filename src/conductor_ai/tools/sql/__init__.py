"""SQL from a model: what it may say (`policy`, `validate`), and how it is run."""
