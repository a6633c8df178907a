//! System call numbers, by name: written by tables.py, do not edit. Complete up to file_setattr
//! (469), Linux 6.17.

/// All names in byte order, a space after each.
pub const NAMES: &str = "\
_llseek _newselect _sysctl accept accept4 access acct add_key adjtimex afs_syscall alarm arch_prctl \
arm_fadvise64_64 arm_sync_file_range bdflush bind bpf break breakpoint brk cacheflush cachestat capget \
capset chdir chmod chown chown32 chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 \
clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 clock_settime clock_settime64 clone \
clone3 close close_range connect copy_file_range creat create_module delete_module dup dup2 dup3 \
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
fanotify_init fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 \
fdatasync fgetxattr file_getattr file_setattr finit_module flistxattr flock fork fremovexattr fsconfig \
fsetxattr fsmount fsopen fspick fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftime ftruncate \
ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_kernel_syms \
get_mempolicy get_robust_list get_thread_area get_tls getcpu getcwd getdents getdents64 getegid \
getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp \
getpid getpmsg getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit \
getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat gtty \
idle init_module inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit io_uring_enter io_uring_register \
io_uring_setup ioctl ioperm iopl ioprio_get ioprio_set ipc kcmp kexec_file_load kexec_load keyctl kill \
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat \
listen listmount listxattr listxattrat llistxattr lock lookup_dcookie lremovexattr lseek lsetxattr \
lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise map_shadow_stack mbind \
membarrier memfd_create memfd_secret migrate_pages mincore mkdir mkdirat mknod mknodat mlock mlock2 \
mlockall mmap mmap2 modify_ldt mount mount_setattr move_mount move_pages mprotect mpx mq_getsetattr \
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink \
mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
newfstatat nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname open open_by_handle_at \
open_tree open_tree_attr openat openat2 pause pciconfig_iobase pciconfig_read pciconfig_write \
perf_event_open personality pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root pkey_alloc \
pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_madvise \
process_mrelease process_vm_readv process_vm_writev prof profil pselect6 pselect6_time64 ptrace putpmsg \
pwrite64 pwritev pwritev2 query_module quotactl quotactl_fd read readahead readdir readlink readlinkat \
readv reboot recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat \
rename renameat renameat2 request_key restart_syscall rmdir rseq rt_sigaction rt_sigpending \
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp security select semctl semget semop \
semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_mempolicy \
set_mempolicy_home_node set_robust_list set_thread_area set_tid_address set_tls setdomainname setfsgid \
setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 sethostname setitimer setns setpgid \
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 \
setrlimit setsid setsockopt settimeofday setuid setuid32 setxattr setxattrat sgetmask shmat shmctl shmdt \
shmget shutdown sigaction sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn \
sigsuspend socket socketcall socketpair splice ssetmask stat stat64 statfs statfs64 statmount statx \
stime stty swapoff swapon symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysfs sysinfo \
syslog tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
timerfd_settime64 times tkill truncate truncate64 tuxcall ugetrlimit ulimit umask umount umount2 uname \
unlink unlinkat unshare uretprobe uselib userfaultfd usr26 usr32 ustat utime utimensat utimensat_time64 \
utimes vfork vhangup vm86 vm86old vmsplice vserver wait4 waitid waitpid write writev ";

pub const NONE: u16 = 0xffff;
pub type Row = [u16; 7];

/// Where the name starts in NAMES; its number on x86_64, x86, x32 (without bit 30), aarch64 and arm (its own calls from
/// 0xf000 on); the call of x86 that also leads there, and the sub-call's number in the low byte. Flat words: a `&str`
/// each would be relocated at every start of a position-independent program.
#[rustfmt::skip]
pub static CALLS: [Row; 483] = [
    [0, NONE, 140, NONE, NONE, 140, NONE], [8, NONE, 142, NONE, NONE, 142, NONE],
    [19, 156, 149, NONE, NONE, 149, NONE], [27, 43, NONE, 43, 202, 285, 26117],
    [34, 288, 364, 288, 242, 366, 26130], [42, 21, 33, 21, NONE, 33, NONE],
    [49, 163, 51, 163, 89, 51, NONE], [54, 248, 286, 248, 217, 309, NONE],
    [62, 159, 124, 159, 171, 124, NONE], [71, 183, 137, 183, NONE, NONE, NONE],
    [83, 37, 27, 37, NONE, NONE, NONE], [89, 158, 384, 158, NONE, NONE, NONE],
    [100, NONE, NONE, NONE, NONE, 270, NONE], [117, NONE, NONE, NONE, NONE, 341, NONE],
    [137, NONE, 134, NONE, NONE, 134, NONE], [145, 49, 361, 49, 200, 282, 26114],
    [150, 321, 357, 321, 280, 386, NONE], [154, NONE, 17, NONE, NONE, NONE, NONE],
    [160, NONE, NONE, NONE, NONE, 61441, NONE], [171, 12, 45, 12, 214, 45, NONE],
    [175, NONE, NONE, NONE, NONE, 61442, NONE], [186, 451, 451, 451, 451, 451, NONE],
    [196, 125, 184, 125, 90, 184, NONE], [203, 126, 185, 126, 91, 185, NONE],
    [210, 80, 12, 80, 49, 12, NONE], [216, 90, 15, 90, NONE, 15, NONE], [222, 92, 182, 92, NONE, 182, NONE],
    [228, NONE, 212, NONE, NONE, 212, NONE], [236, 161, 61, 161, 51, 61, NONE],
    [243, 305, 343, 305, 266, 372, NONE], [257, NONE, 405, NONE, NONE, 405, NONE],
    [273, 229, 266, 229, 114, 264, NONE], [286, NONE, 406, NONE, NONE, 406, NONE],
    [306, 228, 265, 228, 113, 263, NONE], [320, NONE, 403, NONE, NONE, 403, NONE],
    [336, 230, 267, 230, 115, 265, NONE], [352, NONE, 407, NONE, NONE, 407, NONE],
    [375, 227, 264, 227, 112, 262, NONE], [389, NONE, 404, NONE, NONE, 404, NONE],
    [405, 56, 120, 56, 220, 120, NONE], [411, 435, 435, 435, 435, 435, NONE], [418, 3, 6, 3, 57, 6, NONE],
    [424, 436, 436, 436, 436, 436, NONE], [436, 42, 362, 42, 203, 283, 26115],
    [444, 326, 377, 326, 285, 391, NONE], [460, 85, 8, 85, NONE, 8, NONE],
    [466, 174, 127, NONE, NONE, NONE, NONE], [480, 176, 129, 176, 106, 129, NONE],
    [494, 32, 41, 32, 23, 41, NONE], [498, 33, 63, 33, NONE, 63, NONE], [503, 292, 330, 292, 24, 358, NONE],
    [508, 213, 254, 213, NONE, 250, NONE], [521, 291, 329, 291, 20, 357, NONE],
    [535, 233, 255, 233, 21, 251, NONE], [545, 214, NONE, NONE, NONE, NONE, NONE],
    [559, 281, 319, 281, 22, 346, NONE], [571, 441, 441, 441, 441, 441, NONE],
    [584, 232, 256, 232, NONE, 252, NONE], [595, 215, NONE, NONE, NONE, NONE, NONE],
    [610, 284, 323, 284, NONE, 351, NONE], [618, 290, 328, 290, 19, 356, NONE],
    [627, 59, 11, 520, 221, 11, NONE], [634, 322, 358, 545, 281, 387, NONE], [643, 60, 1, 60, 93, 1, NONE],
    [648, 231, 252, 231, 94, 248, NONE], [659, 269, 307, 269, 48, 334, NONE],
    [669, 439, 439, 439, 439, 439, NONE], [680, 221, 250, 221, 223, NONE, NONE],
    [690, NONE, 272, NONE, NONE, NONE, NONE], [703, 285, 324, 285, 47, 352, NONE],
    [713, 300, 338, 300, 262, 367, NONE], [727, 301, 339, 301, 263, 368, NONE],
    [741, 81, 133, 81, 50, 133, NONE], [748, 91, 94, 91, 52, 94, NONE], [755, 268, 306, 268, 53, 333, NONE],
    [764, 452, 452, 452, 452, 452, NONE], [774, 93, 95, 93, 55, 95, NONE],
    [781, NONE, 207, NONE, NONE, 207, NONE], [790, 260, 298, 260, 54, 325, NONE],
    [799, 72, 55, 72, 25, 55, NONE], [805, NONE, 221, NONE, NONE, 221, NONE],
    [813, 75, 148, 75, 83, 148, NONE], [823, 193, 231, 193, 10, 231, NONE],
    [833, 468, 468, 468, 468, 468, NONE], [846, 469, 469, 469, 469, 469, NONE],
    [859, 313, 350, 313, 273, 379, NONE], [872, 196, 234, 196, 13, 234, NONE],
    [883, 73, 143, 73, 32, 143, NONE], [889, 57, 2, 57, NONE, 2, NONE], [894, 199, 237, 199, 16, 237, NONE],
    [907, 431, 431, 431, 431, 431, NONE], [916, 190, 228, 190, 7, 228, NONE],
    [926, 432, 432, 432, 432, 432, NONE], [934, 430, 430, 430, 430, 430, NONE],
    [941, 433, 433, 433, 433, 433, NONE], [948, 5, 108, 5, 80, 108, NONE],
    [954, NONE, 197, NONE, NONE, 197, NONE], [962, NONE, 300, NONE, NONE, 327, NONE],
    [972, 138, 100, 138, 44, 100, NONE], [980, NONE, 269, NONE, NONE, 267, NONE],
    [990, 74, 118, 74, 82, 118, NONE], [996, NONE, 35, NONE, NONE, NONE, NONE],
    [1002, 77, 93, 77, 46, 93, NONE], [1012, NONE, 194, NONE, NONE, 194, NONE],
    [1024, 202, 240, 202, 98, 240, NONE], [1030, 456, 456, 456, 456, 456, NONE],
    [1044, NONE, 422, NONE, NONE, 422, NONE], [1057, 455, 455, 455, 455, 455, NONE],
    [1068, 449, 449, 449, 449, 449, NONE], [1080, 454, 454, 454, 454, 454, NONE],
    [1091, 261, 299, 261, NONE, 326, NONE], [1101, 177, 130, NONE, NONE, NONE, NONE],
    [1117, 239, 275, 239, 236, 320, NONE], [1131, 274, 312, 531, 100, 339, NONE],
    [1147, 211, 244, NONE, NONE, NONE, NONE], [1163, NONE, NONE, NONE, NONE, 61446, NONE],
    [1171, 309, 318, 309, 168, 345, NONE], [1178, 79, 183, 79, 17, 183, NONE],
    [1185, 78, 141, 78, NONE, 141, NONE], [1194, 217, 220, 217, 61, 217, NONE],
    [1205, 108, 50, 108, 177, 50, NONE], [1213, NONE, 202, NONE, NONE, 202, NONE],
    [1223, 107, 49, 107, 175, 49, NONE], [1231, NONE, 201, NONE, NONE, 201, NONE],
    [1241, 104, 47, 104, 176, 47, NONE], [1248, NONE, 200, NONE, NONE, 200, NONE],
    [1257, 115, 80, 115, 158, 80, NONE], [1267, NONE, 205, NONE, NONE, 205, NONE],
    [1279, 36, 105, 36, 102, 105, NONE], [1289, 52, 368, 52, 205, 287, 26119],
    [1301, 121, 132, 121, 155, 132, NONE], [1309, 111, 65, 111, NONE, 65, NONE],
    [1317, 39, 20, 39, 172, 20, NONE], [1324, 181, 188, 181, NONE, NONE, NONE],
    [1332, 110, 64, 110, 173, 64, NONE], [1340, 140, 96, 140, 141, 96, NONE],
    [1352, 318, 355, 318, 278, 384, NONE], [1362, 120, 171, 120, 150, 171, NONE],
    [1372, NONE, 211, NONE, NONE, 211, NONE], [1384, 118, 165, 118, 148, 165, NONE],
    [1394, NONE, 209, NONE, NONE, 209, NONE], [1406, 97, 76, 97, 163, NONE, NONE],
    [1416, 98, 77, 98, 165, 77, NONE], [1426, 124, 147, 124, 156, 147, NONE],
    [1433, 51, 367, 51, 204, 286, 26118], [1445, 55, 365, 542, 209, 295, 26127],
    [1456, 186, 224, 186, 178, 224, NONE], [1463, 96, 78, 96, 169, 78, NONE],
    [1476, 102, 24, 102, 174, 24, NONE], [1483, NONE, 199, NONE, NONE, 199, NONE],
    [1492, 191, 229, 191, 8, 229, NONE], [1501, 464, 464, 464, 464, 464, NONE],
    [1512, NONE, 32, NONE, NONE, NONE, NONE], [1517, NONE, 112, NONE, NONE, NONE, NONE],
    [1522, 175, 128, 175, 105, 128, NONE], [1534, 254, 292, 254, 27, 317, NONE],
    [1552, 253, 291, 253, NONE, 316, NONE], [1565, 294, 332, 294, 26, 360, NONE],
    [1579, 255, 293, 255, 28, 318, NONE], [1596, 210, 249, 210, 3, 247, NONE],
    [1606, 207, 246, 207, 1, 244, NONE], [1617, 208, 247, 208, 4, 245, NONE],
    [1630, 333, 385, 333, 292, 399, NONE], [1644, NONE, 416, NONE, NONE, 416, NONE],
    [1665, 206, 245, 543, 0, 243, NONE], [1674, 209, 248, 544, 2, 246, NONE],
    [1684, 426, 426, 426, 426, 426, NONE], [1699, 427, 427, 427, 427, 427, NONE],
    [1717, 425, 425, 425, 425, 425, NONE], [1732, 16, 54, 514, 29, 54, NONE],
    [1738, 173, 101, 173, NONE, NONE, NONE], [1745, 172, 110, 172, NONE, NONE, NONE],
    [1750, 252, 290, 252, 31, 315, NONE], [1761, 251, 289, 251, 30, 314, NONE],
    [1772, NONE, 117, NONE, NONE, NONE, NONE], [1776, 312, 349, 312, 272, 378, NONE],
    [1781, 320, NONE, 320, 294, 401, NONE], [1797, 246, 283, 528, 104, 347, NONE],
    [1808, 250, 288, 250, 219, 311, NONE], [1815, 62, 37, 62, 129, 37, NONE],
    [1820, 445, 445, 445, 445, 445, NONE], [1838, 444, 444, 444, 444, 444, NONE],
    [1862, 446, 446, 446, 446, 446, NONE], [1885, 94, 16, 94, NONE, 16, NONE],
    [1892, NONE, 198, NONE, NONE, 198, NONE], [1901, 192, 230, 192, 9, 230, NONE],
    [1911, 86, 9, 86, NONE, 9, NONE], [1916, 265, 303, 265, 37, 330, NONE],
    [1923, 50, 363, 50, 201, 284, 26116], [1930, 458, 458, 458, 458, 458, NONE],
    [1940, 194, 232, 194, 11, 232, NONE], [1950, 465, 465, 465, 465, 465, NONE],
    [1962, 195, 233, 195, 12, 233, NONE], [1973, NONE, 53, NONE, NONE, NONE, NONE],
    [1978, 212, 253, 212, 18, 249, NONE], [1993, 198, 236, 198, 15, 236, NONE],
    [2006, 8, 19, 8, 62, 19, NONE], [2012, 189, 227, 189, 6, 227, NONE],
    [2022, 459, 459, 459, 459, 459, NONE], [2040, 461, 461, 461, 461, 461, NONE],
    [2057, 460, 460, 460, 460, 460, NONE], [2075, 6, 107, 6, NONE, 107, NONE],
    [2081, NONE, 196, NONE, NONE, 196, NONE], [2089, 28, 219, 28, 233, 220, NONE],
    [2097, 453, 453, 453, 453, 453, NONE], [2114, 237, 274, 237, 235, 319, NONE],
    [2120, 324, 375, 324, 283, 389, NONE], [2131, 319, 356, 319, 279, 385, NONE],
    [2144, 447, 447, 447, 447, NONE, NONE], [2157, 256, 294, 256, 238, 400, NONE],
    [2171, 27, 218, 27, 232, 219, NONE], [2179, 83, 39, 83, NONE, 39, NONE],
    [2185, 258, 296, 258, 34, 323, NONE], [2193, 133, 14, 133, NONE, 14, NONE],
    [2199, 259, 297, 259, 33, 324, NONE], [2207, 149, 150, 149, 228, 150, NONE],
    [2213, 325, 376, 325, 284, 390, NONE], [2220, 151, 152, 151, 230, 152, NONE],
    [2229, 9, 90, 9, 222, NONE, NONE], [2234, NONE, 192, NONE, NONE, 192, NONE],
    [2240, 154, 123, 154, NONE, NONE, NONE], [2251, 165, 21, 165, 40, 21, NONE],
    [2257, 442, 442, 442, 442, 442, NONE], [2271, 429, 429, 429, 429, 429, NONE],
    [2282, 279, 317, 533, 239, 344, NONE], [2293, 10, 125, 10, 226, 125, NONE],
    [2302, NONE, 56, NONE, NONE, NONE, NONE], [2306, 245, 282, 245, 185, 279, NONE],
    [2320, 244, 281, 527, 184, 278, NONE], [2330, 240, 277, 240, 180, 274, NONE],
    [2338, 243, 280, 243, 183, 277, NONE], [2354, NONE, 419, NONE, NONE, 419, NONE],
    [2377, 242, 279, 242, 182, 276, NONE], [2390, NONE, 418, NONE, NONE, 418, NONE],
    [2410, 241, 278, 241, 181, 275, NONE], [2420, 25, 163, 25, 216, 163, NONE],
    [2427, 462, 462, 462, 462, 462, NONE], [2433, 71, 402, 71, 187, 304, 29966],
    [2440, 68, 399, 68, 186, 303, 29965], [2447, 70, 401, 70, 188, 302, 29964],
    [2454, 69, 400, 69, 189, 301, 29963], [2461, 26, 144, 26, 227, 144, NONE],
    [2467, 150, 151, 150, 229, 151, NONE], [2475, 152, 153, 152, 231, 153, NONE],
    [2486, 11, 91, 11, 215, 91, NONE], [2493, 303, 341, 303, 264, 370, NONE],
    [2511, 35, 162, 35, 101, 162, NONE], [2521, 262, NONE, 262, 79, NONE, NONE],
    [2532, 180, 169, NONE, 42, 169, NONE], [2543, NONE, 34, NONE, NONE, 34, NONE],
    [2548, NONE, 28, NONE, NONE, NONE, NONE], [2557, NONE, 84, NONE, NONE, NONE, NONE],
    [2566, NONE, 59, NONE, NONE, NONE, NONE], [2578, NONE, 18, NONE, NONE, NONE, NONE],
    [2586, NONE, 109, NONE, NONE, NONE, NONE], [2595, 2, 5, 2, NONE, 5, NONE],
    [2600, 304, 342, 304, 265, 371, NONE], [2618, 428, 428, 428, 428, 428, NONE],
    [2628, 467, 467, 467, 467, 467, NONE], [2643, 257, 295, 257, 56, 322, NONE],
    [2650, 437, 437, 437, 437, 437, NONE], [2658, 34, 29, 34, NONE, 29, NONE],
    [2664, NONE, NONE, NONE, NONE, 271, NONE], [2681, NONE, NONE, NONE, NONE, 272, NONE],
    [2696, NONE, NONE, NONE, NONE, 273, NONE], [2712, 298, 336, 298, 241, 364, NONE],
    [2728, 135, 136, 135, 92, 136, NONE], [2740, 438, 438, 438, 438, 438, NONE],
    [2752, 434, 434, 434, 434, 434, NONE], [2763, 424, 424, 424, 424, 424, NONE],
    [2781, 22, 42, 22, NONE, 42, NONE], [2786, 293, 331, 293, 59, 359, NONE],
    [2792, 155, 217, 155, 41, 218, NONE], [2803, 330, 381, 330, 289, 395, NONE],
    [2814, 331, 382, 331, 290, 396, NONE], [2824, 329, 380, 329, 288, 394, NONE],
    [2838, 7, 168, 7, NONE, 168, NONE], [2843, 271, 309, 271, 73, 336, NONE],
    [2849, NONE, 414, NONE, NONE, 414, NONE], [2862, 157, 172, 157, 167, 172, NONE],
    [2868, 17, 180, 17, 67, 180, NONE], [2876, 295, 333, 534, 69, 361, NONE],
    [2883, 327, 378, 546, 286, 392, NONE], [2891, 302, 340, 302, 261, 369, NONE],
    [2901, 440, 440, 440, 440, 440, NONE], [2917, 448, 448, 448, 448, 448, NONE],
    [2934, 310, 347, 539, 270, 376, NONE], [2951, 311, 348, 540, 271, 377, NONE],
    [2969, NONE, 44, NONE, NONE, NONE, NONE], [2974, NONE, 98, NONE, NONE, NONE, NONE],
    [2981, 270, 308, 270, 72, 335, NONE], [2990, NONE, 413, NONE, NONE, 413, NONE],
    [3006, 101, 26, 521, 117, 26, NONE], [3013, 182, 189, 182, NONE, NONE, NONE],
    [3021, 18, 181, 18, 68, 181, NONE], [3030, 296, 334, 535, 70, 362, NONE],
    [3038, 328, 379, 547, 287, 393, NONE], [3047, 178, 167, NONE, NONE, NONE, NONE],
    [3060, 179, 131, 179, 60, 131, NONE], [3069, 443, 443, 443, 443, 443, NONE],
    [3081, 0, 3, 0, 63, 3, NONE], [3086, 187, 225, 187, 213, 225, NONE],
    [3096, NONE, 89, NONE, NONE, NONE, NONE], [3104, 89, 85, 89, NONE, 85, NONE],
    [3113, 267, 305, 267, 78, 332, NONE], [3124, 19, 145, 515, 65, 145, NONE],
    [3130, 169, 88, 169, 142, 88, NONE], [3137, NONE, NONE, NONE, NONE, 291, 26122],
    [3142, 45, 371, 517, 207, 292, 26124], [3151, 299, 337, 537, 243, 365, 26131],
    [3160, NONE, 417, NONE, NONE, 417, NONE], [3176, 47, 372, 519, 212, 297, 26129],
    [3184, 216, 257, 216, 234, 253, NONE], [3201, 197, 235, 197, 14, 235, NONE],
    [3213, 466, 466, 466, 466, 466, NONE], [3227, 82, 38, 82, NONE, 38, NONE],
    [3234, 264, 302, 264, 38, 329, NONE], [3243, 316, 353, 316, 276, 382, NONE],
    [3253, 249, 287, 249, 218, 310, NONE], [3265, 219, 0, 219, 128, 0, NONE],
    [3281, 84, 40, 84, NONE, 40, NONE], [3287, 334, 386, 334, 293, 398, NONE],
    [3292, 13, 174, 512, 134, 174, NONE], [3305, 127, 176, 522, 136, 176, NONE],
    [3319, 14, 175, 14, 135, 175, NONE], [3334, 129, 178, 524, 138, 178, NONE],
    [3350, 15, 173, 513, 139, 173, NONE], [3363, 130, 179, 130, 133, 179, NONE],
    [3377, 128, 177, 523, 137, 177, NONE], [3393, NONE, 421, NONE, NONE, 421, NONE],
    [3416, 297, 335, 536, 240, 363, NONE], [3434, 146, 159, 146, 125, 159, NONE],
    [3457, 147, 160, 147, 126, 160, NONE], [3480, 204, 242, 204, 123, 242, NONE],
    [3498, 315, 352, 315, 275, 381, NONE], [3512, 143, 155, 143, 121, 155, NONE],
    [3527, 145, 157, 145, 120, 157, NONE], [3546, 148, 161, 148, 127, 161, NONE],
    [3568, NONE, 423, NONE, NONE, 423, NONE], [3597, 203, 241, 203, 122, 241, NONE],
    [3615, 314, 351, 314, 274, 380, NONE], [3629, 142, 154, 142, 118, 154, NONE],
    [3644, 144, 156, 144, 119, 156, NONE], [3663, 24, 158, 24, 124, 158, NONE],
    [3675, 317, 354, 317, 277, 383, NONE], [3683, 185, NONE, 185, NONE, NONE, NONE],
    [3692, 23, 82, 23, NONE, NONE, NONE], [3699, 66, 394, 66, 191, 300, 29955],
    [3706, 64, 393, 64, 190, 299, 29954], [3713, 65, NONE, 65, 193, 298, 29953],
    [3719, 220, NONE, 220, 192, 312, 29956], [3730, NONE, 420, NONE, NONE, 420, NONE],
    [3748, NONE, NONE, NONE, NONE, 289, 26121], [3753, 40, 187, 40, 71, 187, NONE],
    [3762, NONE, 239, NONE, NONE, 239, NONE], [3773, 307, 345, 538, 269, 374, 26132],
    [3782, 46, 370, 518, 211, 296, 26128], [3790, 44, 369, 44, 206, 290, 26123],
    [3797, 238, 276, 238, 237, 321, NONE], [3811, 450, 450, 450, 450, 450, NONE],
    [3835, 273, 311, 530, 99, 338, NONE], [3851, 205, 243, NONE, NONE, NONE, NONE],
    [3867, 218, 258, 218, 96, 256, NONE], [3883, NONE, NONE, NONE, NONE, 61445, NONE],
    [3891, 171, 121, 171, 162, 121, NONE], [3905, 123, 139, 123, 152, 139, NONE],
    [3914, NONE, 216, NONE, NONE, 216, NONE], [3925, 122, 138, 122, 151, 138, NONE],
    [3934, NONE, 215, NONE, NONE, 215, NONE], [3945, 106, 46, 106, 144, 46, NONE],
    [3952, NONE, 214, NONE, NONE, 214, NONE], [3961, 116, 81, 116, 159, 81, NONE],
    [3971, NONE, 206, NONE, NONE, 206, NONE], [3983, 170, 74, 170, 161, 74, NONE],
    [3995, 38, 104, 38, 103, 104, NONE], [4005, 308, 346, 308, 268, 375, NONE],
    [4011, 109, 57, 109, 154, 57, NONE], [4019, 141, 97, 141, 140, 97, NONE],
    [4031, 114, 71, 114, 143, 71, NONE], [4040, NONE, 204, NONE, NONE, 204, NONE],
    [4051, 119, 170, 119, 149, 170, NONE], [4061, NONE, 210, NONE, NONE, 210, NONE],
    [4073, 117, 164, 117, 147, 164, NONE], [4083, NONE, 208, NONE, NONE, 208, NONE],
    [4095, 113, 70, 113, 145, 70, NONE], [4104, NONE, 203, NONE, NONE, 203, NONE],
    [4115, 160, 75, 160, 164, 75, NONE], [4125, 112, 66, 112, 157, 66, NONE],
    [4132, 54, 366, 541, 208, 294, 26126], [4143, 164, 79, 164, 170, 79, NONE],
    [4156, 105, 23, 105, 146, 23, NONE], [4163, NONE, 213, NONE, NONE, 213, NONE],
    [4172, 188, 226, 188, 5, 226, NONE], [4181, 463, 463, 463, 463, 463, NONE],
    [4192, NONE, 68, NONE, NONE, NONE, NONE], [4201, 30, 397, 30, 196, 305, 29973],
    [4207, 31, 396, 31, 195, 308, 29976], [4214, 67, 398, 67, 197, 306, 29974],
    [4220, 29, 395, 29, 194, 307, 29975], [4227, 48, 373, 48, 210, 293, 26125],
    [4236, NONE, 67, NONE, NONE, 67, NONE], [4246, 131, 186, 525, 132, 186, NONE],
    [4258, NONE, 48, NONE, NONE, NONE, NONE], [4265, 282, 321, 282, NONE, 349, NONE],
    [4274, 289, 327, 289, 74, 355, NONE], [4284, NONE, 73, NONE, NONE, 73, NONE],
    [4295, NONE, 126, NONE, NONE, 126, NONE], [4307, NONE, 119, NONE, NONE, 119, NONE],
    [4317, NONE, 72, NONE, NONE, 72, NONE], [4328, 41, 359, 41, 198, 281, 26113],
    [4335, NONE, 102, NONE, NONE, NONE, NONE], [4346, 53, 360, 53, 199, 288, 26120],
    [4357, 275, 313, 275, 76, 340, NONE], [4364, NONE, 69, NONE, NONE, NONE, NONE],
    [4373, 4, 106, 4, NONE, 106, NONE], [4378, NONE, 195, NONE, NONE, 195, NONE],
    [4385, 137, 99, 137, 43, 99, NONE], [4392, NONE, 268, NONE, NONE, 266, NONE],
    [4401, 457, 457, 457, 457, 457, NONE], [4411, 332, 383, 332, 291, 397, NONE],
    [4417, NONE, 25, NONE, NONE, NONE, NONE], [4423, NONE, 31, NONE, NONE, NONE, NONE],
    [4428, 168, 115, 168, 225, 115, NONE], [4436, 167, 87, 167, 224, 87, NONE],
    [4443, 88, 83, 88, NONE, 83, NONE], [4451, 266, 304, 266, 36, 331, NONE],
    [4461, 162, 36, 162, 81, 36, NONE], [4466, 277, 314, 277, 84, NONE, NONE],
    [4482, NONE, NONE, NONE, NONE, 341, NONE], [4499, 306, 344, 306, 267, 373, NONE],
    [4506, 139, 135, 139, NONE, 135, NONE], [4512, 99, 116, 99, 179, 116, NONE],
    [4520, 103, 103, 103, 116, 103, NONE], [4527, 276, 315, 276, 77, 342, NONE],
    [4531, 234, 270, 234, 131, 268, NONE], [4538, 201, 13, 201, NONE, NONE, NONE],
    [4543, 222, 259, 526, 107, 257, NONE], [4556, 226, 263, 226, 111, 261, NONE],
    [4569, 225, 262, 225, 109, 260, NONE], [4586, 224, 261, 224, 108, 259, NONE],
    [4600, NONE, 408, NONE, NONE, 408, NONE], [4616, 223, 260, 223, 110, 258, NONE],
    [4630, NONE, 409, NONE, NONE, 409, NONE], [4646, 283, 322, 283, 85, 350, NONE],
    [4661, 287, 326, 287, 87, 354, NONE], [4677, NONE, 410, NONE, NONE, 410, NONE],
    [4695, 286, 325, 286, 86, 353, NONE], [4711, NONE, 411, NONE, NONE, 411, NONE],
    [4729, 100, 43, 100, 153, 43, NONE], [4735, 200, 238, 200, 130, 238, NONE],
    [4741, 76, 92, 76, 45, 92, NONE], [4750, NONE, 193, NONE, NONE, 193, NONE],
    [4761, 184, NONE, 184, NONE, NONE, NONE], [4769, NONE, 191, NONE, NONE, 191, NONE],
    [4780, NONE, 58, NONE, NONE, NONE, NONE], [4787, 95, 60, 95, 166, 60, NONE],
    [4793, NONE, 22, NONE, NONE, NONE, NONE], [4800, 166, 52, 166, 39, 52, NONE],
    [4808, 63, 122, 63, 160, 122, NONE], [4814, 87, 10, 87, NONE, 10, NONE],
    [4821, 263, 301, 263, 35, 328, NONE], [4830, 272, 310, 272, 97, 337, NONE],
    [4838, 335, NONE, 335, NONE, NONE, NONE], [4848, 134, 86, NONE, NONE, 86, NONE],
    [4855, 323, 374, 323, 282, 388, NONE], [4867, NONE, NONE, NONE, NONE, 61443, NONE],
    [4873, NONE, NONE, NONE, NONE, 61444, NONE], [4879, 136, 62, 136, NONE, 62, NONE],
    [4885, 132, 30, 132, NONE, NONE, NONE], [4891, 280, 320, 280, 88, 348, NONE],
    [4901, NONE, 412, NONE, NONE, 412, NONE], [4918, 235, 271, 235, NONE, 269, NONE],
    [4925, 58, 190, 58, NONE, 190, NONE], [4931, 153, 111, 153, 58, 111, NONE],
    [4939, NONE, 166, NONE, NONE, NONE, NONE], [4944, NONE, 113, NONE, NONE, NONE, NONE],
    [4952, 278, 316, 532, 75, 343, NONE], [4961, 236, 273, NONE, NONE, 313, NONE],
    [4969, 61, 114, 61, 260, 114, NONE], [4975, 247, 284, 529, 95, 280, NONE],
    [4982, NONE, 7, NONE, NONE, NONE, NONE], [4990, 1, 4, 1, 64, 4, NONE],
    [4996, 20, 146, 516, 66, 146, NONE],
];
