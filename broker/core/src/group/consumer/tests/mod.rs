//! Consumer groups: scripts that anybody can read (`scripts/*.txt`), and properties that hold whatever members do.

mod classic;
mod many_members;
mod many_topics;
mod properties;
mod scripts;
mod world;
