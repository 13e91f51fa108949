// One small pool of threads for all the kernels of a module.
//
// Work is cut into numbered tasks by its caller, never by the number of threads: which thread runs a task can't
// change a result. Threads are started when first asked for, sleep when idle, and are not carried over a fork:
// a child starts with a pool of its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>

namespace assay_kernels::ASSAY_SET {

class Pool {
  public:
    static Pool& instance();

    // Calls task(i) for every i below `count`, on the calling thread and up to `threads` - 1 others.
    // Returns when all are done. A task must not throw. May be called from several threads at once.
    template <class Task>
    void run(int threads, std::size_t count, const Task& task) {
        if (threads <= 1 || count <= 1) {
            for (std::size_t i = 0; i < count; ++i) task(i);
            return;
        }
        Job job;
        job.call = [](const void* t, std::size_t i) noexcept { (*static_cast<const Task*>(t))(i); };
        job.task = &task;
        job.count = count;
        job.helpers_wanted = static_cast<int>(std::min<std::size_t>(threads, count)) - 1;
        run(job);
    }

  private:
    struct Job {
        void (*call)(const void* task, std::size_t i) noexcept;
        const void* task;
        std::size_t count;
        std::atomic<std::size_t> next{0};
        int helpers_wanted = 0;  // guarded by mutex_, as is the next
        int helpers_inside = 0;

        void work() noexcept {
            for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) call(task, i);
        }
    };

    void run(Job& job);
    void help();
    void start_threads(int wanted);

    std::mutex mutex_;
    std::condition_variable work_;
    std::condition_variable done_;
    std::deque<Job*> jobs_;  // that still want helpers
    int threads_ = 0;
};

}  // namespace assay_kernels::ASSAY_SET
