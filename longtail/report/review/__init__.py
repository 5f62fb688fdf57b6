"""What reviewers ask: coverage, reproducibility, shares, badges."""
