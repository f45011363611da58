"""Fine-tuning methods, regularisers and merging operators: torch only, no files, no clock, no global random state."""
