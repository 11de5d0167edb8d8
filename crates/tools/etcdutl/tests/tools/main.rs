//! Every command on made-up data directories.

mod crash;
mod dump;
mod hostile;
mod made;
mod offline;
mod recover;
mod repair;
