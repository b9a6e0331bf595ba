//! The allocator: small pages for all of our processes, huge ones for containers as the machine has it.
//!
//! With transparent huge pages the first allocation of a process takes 2 to 4 MB, many times what a shim needs. The
//! allocator reads its options from the environment when the process is loaded, before `main`, and then turns huge
//! pages off for the process. Children inherit that, so whatever starts a container takes it back.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Numbered initializers run before those without a number, of which the allocator's is one.
#[used]
#[unsafe(link_section = ".init_array.00100")]
static CHOOSE_SMALL_PAGES: extern "C" fn() = choose_small_pages;

extern "C" fn choose_small_pages() {
    // SAFETY: there is one thread yet, and both texts end with a zero byte. What the user has set stays.
    unsafe { libc::setenv(c"MIMALLOC_ALLOW_THP".as_ptr(), c"0".as_ptr(), 0) };
}
