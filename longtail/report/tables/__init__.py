"""Tables: printed cells beside ours, laid out and rendered. No page around them."""
