"""The papers' claims, judged by our runs. Statistics are those of evaluation/."""
