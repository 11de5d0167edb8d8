//! Every command on made-up data directories.

mod dump;
mod hostile;
mod made;
mod offline;
mod recover;
mod repair;
