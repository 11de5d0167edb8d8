//! Members, learners and the cluster version
