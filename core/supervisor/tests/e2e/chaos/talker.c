/* A service that keeps its own account of what it does, for chaos/account.rs to compare with what sampand says of it.
 *   talker ACCOUNT PERIOD_US LINES BURST LENGTH
 * writes BURST lines of about LENGTH bytes each PERIOD, every fifth to standard error, and ends after LINES of them (0: never).
 * A line is "LIFE NUMBER xxx", and each stream is numbered from 1 on. A life of a job (LENGTH is negative) ends with 0, any
 * other with a code that tells one life from the next. SIGTERM ends it with 0.
 * The account is a shared mapping, so that it holds whatever kills us; its lock says whether two of us live at once. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct life { uint64_t begun, written[2], end, pad[4]; };
struct account { uint64_t lives, doubles, pad[6]; struct life life[]; };
enum { LIVES_MAX = 8192, LINE_MAX_BYTES = 3500, BY_ITSELF = 1000, BY_TERM = 2000 };
static volatile sig_atomic_t asked;
static void on_term(int signal) { (void)signal; asked = 1; }

int main(int argc, char **argv) {
  if (argc < 6) return 0; /* the health check */
  long period = atol(argv[2]), lines = atol(argv[3]), burst = atol(argv[4]), length = atol(argv[5]);
  int job = length < 0;
  if (job) length = -length;
  struct sigaction term = { .sa_handler = on_term };
  sigaction(SIGTERM, &term, NULL);
  int fd = open(argv[1], O_RDWR | O_CLOEXEC);
  size_t size = sizeof(struct account) + LIVES_MAX * sizeof(struct life);
  struct account *account = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd < 0 || account == MAP_FAILED) return 251;
  if (flock(fd, LOCK_EX | LOCK_NB)) __atomic_add_fetch(&account->doubles, 1, __ATOMIC_SEQ_CST);
  uint64_t number = __atomic_fetch_add(&account->lives, 1, __ATOMIC_SEQ_CST);
  if (number >= LIVES_MAX) return 252;
  struct life *life = &account->life[number];
  life->begun = 1;
  static char line[LINE_MAX_BYTES + 64];
  for (long n = 1; !asked && (!lines || n <= lines); n++) {
    int stream = n % 5 == 0;
    int bytes = sprintf(line, "%lu %lu ", (unsigned long)number, (unsigned long)life->written[stream] + 1);
    memset(line + bytes, 'x', length);
    line[bytes += length] = '\n';
    ssize_t done = write(1 + stream, line, bytes + 1);
    if (done == bytes + 1) life->written[stream]++;
    else if (!asked) return 253;
    struct timespec pause = { period / 1000000, period % 1000000 * 1000 };
    if (n % burst == 0 && !asked) nanosleep(&pause, NULL);
  }
  int code = asked || job ? 0 : 1 + (number * 7 + 3) % 90;
  life->end = (asked ? BY_TERM : BY_ITSELF) + code;
  _exit(code);
}
