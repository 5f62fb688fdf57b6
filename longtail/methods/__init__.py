"""One paper, one file: `Config` and `Method`. The file's name is the method's name in params.yaml."""
