"""Online classifiers on hashed features, calibration, and the named recipes built of them."""
