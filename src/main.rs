//! The `crisp` binary: starts the command line and turns errors into exit codes.

fn main() -> std::process::ExitCode {
    crisp::cli::main()
}
