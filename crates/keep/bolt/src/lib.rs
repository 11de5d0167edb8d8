//! The bbolt file format: pages, copy-on-write tree, readers, batch commits, check
