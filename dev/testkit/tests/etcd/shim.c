/* Preloaded into a member: makes its disk slow or broken and its clock wrong, as a mapped file of numbers says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_DELAY_MS, SYNC_ERRNO, CLOCK_OFFSET_MS, FAULTS };

static long *faults;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ETCD_TEST_FAULTS");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, FAULTS * sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) faults = map;
}

static long fault(int which) { return faults ? __atomic_load_n(&faults[which], __ATOMIC_RELAXED) : 0; }

static int sync_with(long call, int fd) {
    long delay_ms = fault(SYNC_DELAY_MS);
    if (delay_ms) usleep(delay_ms * 1000);
    if (fault(SYNC_ERRNO)) {
        errno = fault(SYNC_ERRNO);
        return -1;
    }
    return syscall(call, fd);
}

int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }
int fsync(int fd) { return sync_with(SYS_fsync, fd); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    long offset_ms = clock == CLOCK_REALTIME ? fault(CLOCK_OFFSET_MS) : 0;
    if (result == 0) time->tv_sec += offset_ms / 1000;
    return result;
}
