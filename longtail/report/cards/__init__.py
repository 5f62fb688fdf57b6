"""What registries read: a run as an RO-Crate, data sets as Croissant, models as cards."""
