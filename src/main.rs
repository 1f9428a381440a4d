//! The `crisp` binary: starts the command line and turns errors into exit codes.

fn main() -> std::process::ExitCode {
    // Mesa's device-select layer asks Wayland for the default device, and where there is no desktop
    // it complains on stderr about XDG_RUNTIME_DIR at every start. Crisp chooses by kind itself.
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        #[expect(unsafe_code, reason = "the layer reads nothing but its environment")]
        // SAFETY: no other thread has been started yet.
        unsafe {
            std::env::set_var("NODEVICE_SELECT", "1");
        }
    }
    crisp::cli::main()
}
