//! What must hold for every text and every dtab: called by the property tests and by the fuzz targets.
