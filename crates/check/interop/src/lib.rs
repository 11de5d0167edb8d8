//! Real etcd and real clients against ours
