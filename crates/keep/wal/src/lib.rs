//! etcd's write-ahead log and .snap files
