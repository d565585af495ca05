"""Private plumbing: files, threads, progress, object stores."""
