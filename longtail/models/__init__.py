"""Networks: shapes in, tensors out. Knows no data, no views and no loss."""
