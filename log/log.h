/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LOG_LOG_H
#define LOG_LOG_H

/**
 * @file
 * What the program says: its log, and the statistics of --stats. Nobody waits for a reader.
 *
 * From log_open() on everything that is logged by RTE_LOG or printed to the C library's stderr, in
 * this program, in EAL, in librte_vhost and in drivers, is put into queues in memory: one for
 * stderr, and one for syslog where EAL would have used it. Statistics are put into one for stdout,
 * or into that of stderr where both are the same file. A thread for each writes them out (sink.h).
 * What the texts look like on a terminal and in a pipe is not changed; lines in a regular file have
 * the time before them, lines in systemd's journal their priority.
 *
 * Lines that guests and front ends cause are limited in number. The limit is applied to what a line
 * begins with, and to warnings apart from all others, so that a flood of the latter hides none of
 * the former. Lines at level DEBUG are there because somebody asked for them, and have no limit.
 *
 * Threads: any thread may log. No call waits for anything but a short lock.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** What became of lines and of statistics since the start. */
struct log_counters {
	uint64_t lines;		  /**< written */
	uint64_t lines_lost;	  /**< not written: nobody read them, or an error */
	uint64_t lines_suppressed; /**< not written: too many a second */
	uint64_t syslog_lost;	  /**< lines that syslog did not get */
	uint64_t blocks;	  /**< tables or screens of statistics, written */
	uint64_t blocks_lost;	  /**< not written */
};

/**
 * Take over the log and stderr. Main thread, after descriptors 0 to 2 are open and signals are
 * blocked, before EAL starts. What is queued when the process exits or aborts is written before
 * that, if somebody reads it within a moment.
 *
 * @param argc of main()
 * @param argv of main()
 * @return 0 or a negative errno
 */
int log_open(int argc, char **argv);

/** Move the threads off the lcores of workers. Called by any control thread, after EAL's start. */
void log_move(void);

/** Limit lines of every kind from now on, also those of EAL and drivers. Main thread. */
void log_limit_all(void);

/**
 * Say how many lines were suppressed, and how many lines and statistics were lost, once there is
 * room. Called by the control loop, each second, and by the main thread at the end.
 *
 * @param last whether it is the last time: what was suppressed is said though more may come
 */
void log_report(bool last);

/**
 * Write statistics to stdout.
 *
 * @param text whole lines, or a screen
 * @param len bytes, at most TEXT_MAX
 * @param screen whether the next one replaces this one
 */
void log_statistics(const char *text, size_t len, bool screen);

/**
 * What became of lines and of statistics.
 *
 * @param[out] sum since the start
 */
void log_count(struct log_counters *sum);

/**
 * Wait a moment until the queues are empty. Any thread, and safe in a signal handler: for one that
 * ends the process.
 */
void log_drain(void);

#endif /* LOG_LOG_H */
