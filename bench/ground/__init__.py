"""What everything stands on, knowing nothing of merging: files that appear whole, JSON and TOML, versions, memory."""
