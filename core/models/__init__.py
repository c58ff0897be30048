"""The models: one file a family that reads like its figure, the parts they share beside them."""
