//! etcd's buckets over a bolt file: encodings, one writer, many readers, write buffer
