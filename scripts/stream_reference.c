/* STREAM's read, copy, write and triad as plainly as C can say them at full speed: the yardstick of the host kernels.
 *
 * As a program:   cc -std=c11 -O3 -march=native -pthread stream_reference.c -o stream_reference
 *                 ./stream_reference [MiB per array, default 1024] [threads, default all allowed CPUs]
 * As a library:   the same with -shared -fPIC -o stream_reference.so
 *
 * Stores bypass the caches (x86-64: AVX-512, AVX2 or SSE2 by what -march allows; aarch64: stnp), so that no written
 * line is read first. Each call starts its threads, pins one to each CPU of the process's affinity mask, lets them take
 * chunks of 4 MiB from one counter (equal shares would wait for the slowest core), and joins them: nothing of it runs
 * between calls. Arrays must be 64-byte aligned and n a multiple of 16 elements. Every function returns 0, or an errno
 * value when a thread can't be started.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif !defined(__aarch64__)
#error "stream_reference.c: written for x86-64 and aarch64"
#endif

enum { LINE = 16, CHUNK = 1 << 20, MAX_THREADS = 1024 }; /* elements of 4 bytes: in 64 bytes, in 4 MiB */
typedef float Line __attribute__((vector_size(64), aligned(64), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(64), may_alias));

/* By pointer: gcc warns about the calling convention of 64-byte values where there is no AVX-512. */
static inline void put(float *to, const Line *line) {
#if defined(__AVX512F__)
    _mm512_stream_ps(to, *(const __m512 *)line);
#elif defined(__AVX__)
    for (int i = 0; i < 2; i++) _mm256_stream_ps(to + 8 * i, ((const __m256 *)line)[i]);
#elif defined(__x86_64__)
    for (int i = 0; i < 4; i++) _mm_stream_ps(to + 4 * i, ((const __m128 *)line)[i]);
#else
    typedef float Quad __attribute__((vector_size(16), may_alias));
    const Quad *part = (const Quad *)line;
    __asm__ volatile("stnp %q1, %q2, [%0]\n\tstnp %q3, %q4, [%0, #32]"
                     :
                     : "r"(to), "w"(part[0]), "w"(part[1]), "w"(part[2]), "w"(part[3])
                     : "memory");
#endif
}

static inline void drain(void) {
#if defined(__x86_64__)
    _mm_mfence();
#else
    __asm__ volatile("dmb ish" ::: "memory");
#endif
}

typedef struct Job {
    uint32_t (*work)(const struct Job *, int64_t begin, int64_t end); /* elements; returns their sum, for read */
    const float *b, *c;
    float *a;
    float scalar;
    uint32_t seed;
    int64_t n;
    atomic_llong next; /* first element that nobody has taken */
} Job;

typedef struct {
    pthread_t thread;
    Job *job;
    int cpu;
    uint32_t sum;
} Worker;

static uint32_t copy_chunk(const Job *job, int64_t begin, int64_t end) {
    const float *b = job->b;
    float *a = job->a;
    for (int64_t i = begin; i < end; i += LINE) put(a + i, (const Line *)(b + i));
    return 0;
}

static uint32_t triad_chunk(const Job *job, int64_t begin, int64_t end) {
    const float *b = job->b, *c = job->c;
    const float scalar = job->scalar;
    float *a = job->a;
    for (int64_t i = begin; i < end; i += LINE) {
        Line sum = *(const Line *)(b + i) + scalar * *(const Line *)(c + i);
        put(a + i, &sum);
    }
    return 0;
}

static uint32_t write_chunk(const Job *job, int64_t begin, int64_t end) {
    const uint32_t hash = 2654435761u;
    float *a = job->a;
    Words values;
    for (int lane = 0; lane < LINE; lane++) values[lane] = ((uint32_t)begin + (uint32_t)lane) * hash + job->seed;
    for (int64_t i = begin; i < end; i += LINE, values += hash * LINE) put(a + i, (const Line *)&values);
    return 0;
}

static uint32_t read_chunk(const Job *job, int64_t begin, int64_t end) {
    Words sums[4] = {{0}};
    int64_t i = begin;
    const float *b = job->b;
    for (; i + 4 * LINE <= end; i += 4 * LINE)
        for (int k = 0; k < 4; k++) sums[k] += *(const Words *)(b + i + k * LINE);
    for (; i < end; i += LINE) sums[0] += *(const Words *)(b + i);
    sums[0] += sums[1] + sums[2] + sums[3];
    uint32_t sum = 0;
    for (int lane = 0; lane < LINE; lane++) sum += sums[0][lane];
    return sum;
}

static void *run_worker(void *argument) {
    Worker *worker = argument;
    Job *job = worker->job;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(worker->cpu, &here);
    (void)sched_setaffinity(0, sizeof here, &here); /* a CPU taken away meanwhile: slower, still right */
    for (int64_t begin; (begin = atomic_fetch_add(&job->next, CHUNK)) < job->n;)
        worker->sum += job->work(job, begin, begin + CHUNK < job->n ? begin + CHUNK : job->n);
    drain();
    return NULL;
}

static int run(Job *job, int threads, uint32_t *sum) {
    static Worker workers[MAX_THREADS];
    cpu_set_t allowed;
    if (job->n < 0 || job->n % LINE || threads < 1 || threads > MAX_THREADS) return EINVAL;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return errno;
    int cpu = -1, started = 0, failed = 0;
    for (int t = 0; t < threads; t++) {
        do cpu = (cpu + 1) % CPU_SETSIZE; while (!CPU_ISSET(cpu, &allowed));
        workers[t] = (Worker){.job = job, .cpu = cpu};
        failed = pthread_create(&workers[t].thread, NULL, run_worker, &workers[t]);
        if (failed) break;
        started++;
    }
    uint32_t all = 0;
    for (int t = 0; t < started; t++) {
        pthread_join(workers[t].thread, NULL);
        all += workers[t].sum;
    }
    if (sum) *sum = all;
    return failed;
}

/* The interface. n in elements; not to be called from two threads at once. */
int stream_copy(const float *b, float *a, int64_t n, int threads) {
    Job job = {.work = copy_chunk, .b = b, .a = a, .n = n};
    return run(&job, threads, NULL);
}

int stream_write(float *a, uint32_t seed, int64_t n, int threads) {
    Job job = {.work = write_chunk, .a = a, .seed = seed, .n = n};
    return run(&job, threads, NULL);
}

int stream_triad(const float *b, const float *c, float scalar, float *a, int64_t n, int threads) {
    Job job = {.work = triad_chunk, .b = b, .c = c, .a = a, .scalar = scalar, .n = n};
    return run(&job, threads, NULL);
}

int stream_read(const float *b, uint32_t *sum, int64_t n, int threads) {
    Job job = {.work = read_chunk, .b = b, .n = n};
    return run(&job, threads, sum);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* A whole number of at most `most`, or 0. */
static int64_t whole_number(const char *text, int64_t most) {
    char *end;
    long long value = strtoll(text, &end, 10);
    return *text && !*end && value >= 1 && value <= most ? value : 0;
}

int main(int argc, char **argv) {
    enum { REPEATS = 9 };
    static const char *const names[] = {"read", "copy", "write", "triad"};
    static const int moved[] = {1, 2, 1, 3}; /* arrays */
    cpu_set_t allowed;
    int threads = sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : CPU_COUNT(&allowed);
    int64_t mib = argc > 1 ? whole_number(argv[1], 1 << 24) : 1024;
    if (argc > 2) threads = (int)whole_number(argv[2], MAX_THREADS);
    if (!mib || threads < 1 || threads > MAX_THREADS || argc > 3) {
        fprintf(stderr, "usage: %s [MiB per array] [threads]\n", argv[0]);
        return 2;
    }
    int64_t n = mib * (1 << 20) / 4;
    float *arrays[3];
    for (int k = 0; k < 3; k++) {
        arrays[k] = aligned_alloc(4096, (size_t)n * 4);
        if (!arrays[k]) {
            fprintf(stderr, "%s: no room for three arrays of %lld MiB\n", argv[0], (long long)mib);
            return 3;
        }
        memset(arrays[k], 0, (size_t)n * 4);
    }
    printf("%lld MiB per array, %d threads, non-temporal stores; median and best of %d\n", (long long)mib, threads,
           REPEATS);
    printf("%-6s %12s %12s %12s\n", "op", "seconds", "GB/s", "best GB/s");
    for (int op = 0; op < 4; op++) {
        double seconds[REPEATS];
        for (int r = 0; r < REPEATS; r++) {
            uint32_t sum;
            int failed = 0;
            double start = now();
            if (op == 0) failed = stream_read(arrays[0], &sum, n, threads);
            if (op == 1) failed = stream_copy(arrays[0], arrays[1], n, threads);
            if (op == 2) failed = stream_write(arrays[0], (uint32_t)r, n, threads);
            if (op == 3) failed = stream_triad(arrays[0], arrays[1], 3.0f, arrays[2], n, threads);
            seconds[r] = now() - start;
            if (failed) {
                fprintf(stderr, "%s: %s: %s\n", argv[0], names[op], strerror(failed));
                return 3;
            }
        }
        qsort(seconds, REPEATS, sizeof *seconds, ascending);
        double gb = 4e-9 * (double)n * moved[op];
        double middle = seconds[REPEATS / 2];
        printf("%-6s %12.6f %12.2f %12.2f\n", names[op], middle, gb / middle, gb / seconds[0]);
    }
    return 0;
}
