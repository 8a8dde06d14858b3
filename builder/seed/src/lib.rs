//! Builds the embedded package repository from distribution sources.
