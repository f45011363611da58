"""Models from elsewhere and to elsewhere: published experts, merges of files, exports."""
