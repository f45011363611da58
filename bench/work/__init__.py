"""What a cell is made of, in torch: backbone, fine-tuning, merging, evaluation."""
