//! The YAML file → settings of each part; every problem at once.
