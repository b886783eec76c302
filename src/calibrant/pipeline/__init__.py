"""Pipeline: exposures and a recipe to products and calibrated frames."""
