"""What lasts: records of finished cells as Parquet, task vectors as safetensors, on a disk or behind a URL."""
