//! Damage that heals from another member, with the power cut at every step.
