"""The machine learning of Likeness: models, the loss, training, drawing. It knows no server and no SQL."""
