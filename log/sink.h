/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LOG_SINK_H
#define LOG_SINK_H

/**
 * @file
 * A place that texts are written to, by a thread of its own: stderr, stdout or syslog.
 *
 * A write may block for hours: a terminal stopped by Ctrl-S, a pipe that nobody reads, a journal
 * that hangs. So only the sink's thread writes; all others put texts into its queue, which needs
 * memory and a short lock. When the queue is full, whole texts are lost and counted. The thread is
 * never joined: the process ends without it when it is stuck.
 */

#include <pthread.h>
#include <sched.h>

#include "log/queue.h"

/** Room for what is put before a text: syslog's part with a name of 64 bytes is the longest. */
#define PREFIX_MAX 128

/** What is put before a line of the log. */
enum sink_style {
	SINK_PLAIN,   /**< nothing: terminals and pipes */
	SINK_FILE,    /**< the time, in a regular file */
	SINK_JOURNAL, /**< the priority as <N>, sd-daemon(3) */
	SINK_SYSLOG,  /**< what syslog(3) puts there; each line is a datagram */
};

/** What a sink has done, since the start. */
struct sink_counters {
	uint64_t lines, lines_lost;   /**< of the log */
	uint64_t blocks, blocks_lost; /**< of statistics */
};

/** A sink. sink_start() fills it. */
struct sink {
	int fd; /**< SINK_SYSLOG: -1 while there is no connection, used by the thread alone then */
	enum sink_style style;
	const char *name; /**< SINK_SYSLOG: of the program */
	int facility;	  /**< SINK_SYSLOG: LOG_DAEMON, ... */
	pthread_t thread;
	unsigned int pending; /**< texts that are not written; atomic */
	uint64_t moved;	      /**< bytes written, changes while the reader reads; atomic */

	pthread_mutex_t lock; /**< of all below */
	pthread_cond_t filled;
	struct text_queue queue;
	struct sink_counters count;
	uint32_t lines_lost, blocks_lost; /**< not reported yet */
	int error;    /**< why, an errno; 0: the queue was full */
	bool failing; /**< the last write failed */
	bool torn;    /**< it left a part of a line; used by the thread alone */
	char in_hand[PREFIX_MAX + TEXT_MAX]; /**< used by the thread alone */
};

/**
 * Start a sink's thread, with all signals blocked. Main thread.
 *
 * @param s all zeros but fd, style, name and facility
 * @param name of the thread, at most 15 characters
 * @return 0 or a negative errno
 */
int sink_start(struct sink *s, const char *name);

/**
 * Have a text written some time. Any thread; never waits for a reader.
 *
 * @param s the sink
 * @param t describes the text
 * @param bytes t->len of them
 */
void sink_put(struct sink *s, const struct text *t, const char *bytes);

/**
 * Write how many lines were lost, if there is room again. Any thread.
 *
 * @param s the sink
 */
void sink_report(struct sink *s);

/**
 * Take what is known of lost statistics, if there is room again. Any thread.
 *
 * @param s the sink
 * @param[out] error why, an errno; 0: nobody read them
 * @return number of blocks, which count as reported from now on
 */
uint32_t sink_lost_blocks(struct sink *s, int *error);

/**
 * Wait until all is written, or the reader does not read, or for two seconds. Any thread, and safe
 * in a signal handler.
 *
 * @param s the sink
 * @return whether all is written
 */
bool sink_drain(struct sink *s);

#endif /* LOG_SINK_H */
