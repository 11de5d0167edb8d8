//! Owns every thread, executes effects, boots and restores a member
