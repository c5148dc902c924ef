//! Counters and histograms: one set a worker, one writer each, summed when somebody asks.
